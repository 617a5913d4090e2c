"""ItemKNN: items that the same users touched (Sarwar et al. 2001), with shrinkage and recency weights."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from llmrec.data.histories import Queries
from llmrec.data.splits import Split
from llmrec.evaluation.baselines.tuning import Search, Tuning, search

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
        blocks = [
            _nearest(users[start : start + _ROWS_AT_ONCE] @ users.T, start, norm, settings)
            for start in range(0, split.n_items, _ROWS_AT_ONCE)
        ]
        return cls(sparse.vstack(blocks, format="csr"), settings)

    @staticmethod
    def tune(split: Split, valid: Queries, tuning: Tuning) -> Search[ItemKNNSettings]:
        def build(settings: ItemKNNSettings) -> tuple[ItemKNN, ItemKNNSettings]:
            return ItemKNN.fit(split, settings), settings

        grid = (
            ItemKNNSettings(*point) for point in product((50, 100, 1000), (0.0, 10.0, 30.0, 100.0), (1.0, 0.8, 0.5))
        )
        return search("item_knn", ItemKNNSettings(), grid, build, valid, tuning)

    def scores(self, queries: Queries) -> Tensor:
        query, item = queries.seen()
        lengths = queries.end - queries.start
        steps_back = np.repeat(np.cumsum(lengths), lengths) - 1 - np.arange(len(query))
        weight = (self.settings.gamma**steps_back).astype(np.float32)
        shape = (len(queries), self.similarity.shape[0])
        history = sparse.csr_array((weight, (query, item)), shape=shape)  # (B, N)
        return torch.from_numpy((history @ self.similarity).toarray())  # (B, N)


def _nearest(
    together: sparse.csr_array,
    start: int,
    norm: np.ndarray[tuple[int], np.dtype[np.float32]],
    settings: ItemKNNSettings,
) -> sparse.csr_array:
    """Counts of pairs (rows, N) of the items from row `start` on -> their best similarities; equals by item row."""
    together.sort_indices()
    pairs = together.tocoo()  # by row, then by item
    row, item = pairs.coords
    other = row + start != item
    row, item, count = row[other], item[other], pairs.data[other]
    similarity = count / (norm[row + start] * norm[item] + settings.shrinkage)
    best_first = np.lexsort((-similarity, row))  # stable
    row, item, similarity = row[best_first], item[best_first], similarity[best_first]
    place = np.arange(len(row)) - np.searchsorted(row, row)  # 0 for the nearest of each row
    kept = place < settings.neighbours
    return sparse.csr_array((similarity[kept], (row[kept], item[kept])), shape=together.shape)
