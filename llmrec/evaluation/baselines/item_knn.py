"""ItemKNN: items that the same users touched (Sarwar et al. 2001), with shrinkage and recency weights."""

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
    """What can be tuned.

    neighbours: kept for each item. shrinkage: added to the norm, so that rare pairs count less.
    gamma: weight of a history event falls by this factor with each step back (1: all alike).
    """

    neighbours: int = 100
    shrinkage: float = 10.0
    gamma: float = 0.8


@dataclass(frozen=True)
class ItemKNN:
    """score(u, i) = sum over j in the history of gamma^(steps back) * similarity[j, i].

    The similarity is frozen at training; the history is as of the query, with events after the cut-off.

    similarity: (N, N) sparse float32, row j holds the neighbours of j.
    """

    similarity: sparse.csr_array
    settings: ItemKNNSettings

    @classmethod
    def fit(cls, split: Split, settings: ItemKNNSettings = ItemKNNSettings()) -> ItemKNN:
        """Cosine of the items' columns in the binary training matrix: n_ij / (sqrt(n_i n_j) + shrinkage)."""
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
        def build(settings: ItemKNNSettings) -> tuple[ItemKNN, ItemKNNSettings]:
            return ItemKNN.fit(split, settings), settings

        grid = (
            ItemKNNSettings(*point) for point in product((50, 100, 1000), (0.0, 10.0, 30.0, 100.0), (1.0, 0.8, 0.5))
        )
        return tune_on_grid("item_knn", ItemKNNSettings(), grid, build, valid, tuning)

    def score(self, queries: Queries) -> Tensor:
        query, item = queries.list_seen_pairs()
        weight = (self.settings.gamma ** history_steps(queries)).astype(np.float32)
        shape = (len(queries), self.similarity.shape[0])
        history = sparse.csr_array((weight, (query, item)), shape=shape)  # (B, N)
        return torch.from_numpy((history @ self.similarity).toarray())  # (B, N)


def history_steps(queries: Queries) -> Rows:
    """(S,) events of the history after each one of it, in the order of `queries.list_seen_pairs()`: 0 for the last."""
    lengths = queries.end - queries.start
    return np.repeat(lengths, lengths) - 1 - concat_ranges(lengths)


def nearest_neighbors(
    together: sparse.csr_array, rows: Rows, norm: NDArray[np.float32], settings: ItemKNNSettings
) -> sparse.csr_array:
    """Counts of pairs (R, N) of the items `rows` (R,) -> their best similarities (R, N); equals by item row."""
    together.sort_indices()  # by row, then by item
    item, lengths = together.indices, np.diff(together.indptr)
    similarity = together.data / (np.repeat(norm[rows], lengths) * norm[item] + settings.shrinkage)
    similarity[item == np.repeat(rows, lengths)] = 0.0  # not a neighbour of itself
    close = np.flatnonzero(_above_kth(similarity, together.indptr, settings.neighbours))
    row = np.repeat(np.arange(len(rows)), lengths)[close]
    item, similarity = item[close], similarity[close]
    best_first = np.lexsort((-similarity, row))  # stable
    row, item, similarity = row[best_first], item[best_first], similarity[best_first]
    place = np.arange(len(row)) - np.searchsorted(row, row)  # 0 for the nearest of each row
    kept = (place < settings.neighbours) & (similarity > 0.0)
    return sparse.csr_array((similarity[kept], (row[kept], item[kept])), shape=together.shape)


def _above_kth(similarity: NDArray[np.float32], starts: Rows, most: int) -> Mask:
    """(P,) as similar as the `most`-th of its row: nothing else needs to be sorted, which is what would take the time.

    starts: (R + 1,) of the rows in `similarity`.
    """
    close: Mask = np.ones(len(similarity), dtype=np.bool_)
    for row in np.flatnonzero(np.diff(starts) > most):
        own = slice(starts[row], starts[row + 1])
        close[own] = similarity[own] >= np.partition(similarity[own], -most)[-most]
    return close
