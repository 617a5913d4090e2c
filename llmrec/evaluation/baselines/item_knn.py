"""ItemKNN: items that the same users interacted with, with shrinkage and recency weights.

Source:
    Sarwar et al. 2001.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from llmrec.data.histories import Queries
from llmrec.data.splits import Split
from llmrec.evaluation.baselines.tuning import Tuning, TuningResult, tune_on_grid
from llmrec.utils.arrays import Mask, Rows, concat_ranges

_ROWS_AT_ONCE = 2048


@dataclass(frozen=True)
class ItemKNNSettings:
    """Settings of ItemKNN."""

    neighbors: int = 100
    """Number of neighbors of each item."""
    shrinkage: float = 10.0
    """Number added to the norm, so that rare pairs count less."""
    gamma: float = 0.8
    """Factor of a history event's weight for each step back; 1 for equal weights."""


@dataclass(frozen=True)
class ItemKNN:
    """Scorer with score(u, i) = sum over j in the history of gamma^(steps back) * similarity[j, i].

    The similarity is fixed after training; the history includes events after the cutoff.
    """

    similarity: sparse.csr_array
    """Similarities, (N, N) sparse float32; row j holds the neighbors of j."""
    settings: ItemKNNSettings
    """Settings."""

    @classmethod
    def fit(cls, split: Split, settings: ItemKNNSettings = ItemKNNSettings()) -> ItemKNN:
        """Compute the cosine of items in the binary training matrix: n_ij / (sqrt(n_i n_j) + shrinkage).

        Args:
            split: Split whose training part is used.
            settings: Settings.

        Returns:
            The fitted baseline.
        """
        train = split.train
        ones = np.ones(len(train), dtype=np.float32)
        users = sparse.csr_array((ones, (train.item, train.user)), shape=(split.n_items, split.n_users))  # (N, U)
        users.data[:] = 1.0  # a repeated event counts once
        norm = np.sqrt(np.asarray(users.sum(axis=1)))  # (N,)
        every = np.arange(split.n_items)
        blocks = [
            nearest_neighbors(users[rows] @ users.T, rows, norm, settings)
            for rows in np.split(every, range(_ROWS_AT_ONCE, split.n_items, _ROWS_AT_ONCE))
        ]
        return cls(sparse.vstack(blocks, format="csr"), settings)

    @staticmethod
    def tune(split: Split, valid: Queries, tuning: Tuning) -> TuningResult[ItemKNNSettings]:
        """Choose settings on validation queries.

        Args:
            split: Split whose training part is used.
            valid: Validation queries.
            tuning: Budget of the search.

        Returns:
            Tried and chosen settings.
        """

        def build(settings: ItemKNNSettings) -> tuple[ItemKNN, ItemKNNSettings]:
            return ItemKNN.fit(split, settings), settings

        grid = (
            ItemKNNSettings(*point) for point in product((50, 100, 1000), (0.0, 10.0, 30.0, 100.0), (1.0, 0.8, 0.5))
        )
        return tune_on_grid("item_knn", ItemKNNSettings(), grid, build, valid=valid, tuning=tuning)

    def score(self, queries: Queries) -> Tensor:
        """Score the whole catalog for each query.

        Args:
            queries: Queries, B of them.

        Returns:
            Scores, (B, N).
        """
        query, item = queries.list_seen_pairs()
        weight = (self.settings.gamma ** history_steps(queries)).astype(np.float32)
        shape = (len(queries), self.similarity.shape[0])
        history = sparse.csr_array((weight, (query, item)), shape=shape)  # (B, N)
        return torch.from_numpy((history @ self.similarity).toarray())  # (B, N)


def history_steps(queries: Queries) -> Rows:
    """Return the number of events after each event of a history, 0 for the last.

    Args:
        queries: Queries.

    Returns:
        Steps, (S,), in the order of `queries.list_seen_pairs()`.
    """
    lengths = queries.end - queries.start
    return np.repeat(lengths, lengths) - 1 - concat_ranges(lengths)


def nearest_neighbors(
    together: sparse.csr_array, rows: Rows, norm: NDArray[np.float32], settings: ItemKNNSettings
) -> sparse.csr_array:
    """Convert counts of pairs to the best similarities of each item; ties are ordered by item row.

    Args:
        together: Counts of pairs, (R, N).
        rows: Items of the rows, (R,).
        norm: Norm of each item, (N,).
        settings: Number of neighbors and shrinkage.

    Returns:
        Similarities, (R, N), of the nearest neighbors only.
    """
    together.sort_indices()  # by row, then by item
    item, lengths = together.indices, np.diff(together.indptr)
    similarity = together.data / (np.repeat(norm[rows], lengths) * norm[item] + settings.shrinkage)
    similarity[item == np.repeat(rows, lengths)] = 0.0  # an item is no neighbor of itself
    close = np.flatnonzero(_above_kth(similarity, together.indptr, settings.neighbors))
    row = np.repeat(np.arange(len(rows)), lengths)[close]
    item, similarity = item[close], similarity[close]
    best_first = np.lexsort((-similarity, row))  # stable
    row, item, similarity = row[best_first], item[best_first], similarity[best_first]
    place = np.arange(len(row)) - np.searchsorted(row, row)  # 0 for the nearest of each row
    kept = (place < settings.neighbors) & (similarity > 0.0)
    return sparse.csr_array((similarity[kept], (row[kept], item[kept])), shape=together.shape)


def _above_kth(similarity: NDArray[np.float32], starts: Rows, most: int) -> Mask:
    """Return True for entries at least as similar as the `most`-th of their row (P,)."""
    # Only these entries need to be sorted, which is the slow part. `starts` (R + 1,) are the rows in `similarity`.
    close: Mask = np.ones(len(similarity), dtype=np.bool_)
    for row in np.flatnonzero(np.diff(starts) > most):
        own = slice(starts[row], starts[row + 1])
        close[own] = similarity[own] >= np.partition(similarity[own], -most)[-most]
    return close
