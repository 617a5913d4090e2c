"""Metrics of a ranking, per query. Ranks are 1-based floats: an item tied with others takes their mean rank.

Each query has one target, so that recall is a hit rate and the ideal DCG is 1.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from llmrec.utils.arrays import Rows

Values = NDArray[np.float64]


def recall_at(rank: Values, k: int) -> Values:
    """(Q,) 1 where the target is among the first k, else 0: recall@k = [rank <= k].

    >>> recall_at(np.array([1.0, 10.0, 10.5, 11.0]), 10).tolist()
    [1.0, 1.0, 0.0, 0.0]
    """
    return (rank <= k).astype(np.float64)


def ndcg_at(rank: Values, k: int) -> Values:
    """(Q,) NDCG@k = [rank <= k] / log2(1 + rank), from 0 to 1.

    By hand: rank 1 gives 1 / log2(2) = 1, rank 3 gives 1 / log2(4) = 0.5, rank 11 is outside.

    >>> ndcg_at(np.array([1.0, 3.0, 11.0]), 10).tolist()
    [1.0, 0.5, 0.0]
    """
    return recall_at(rank, k) / np.log2(1 + rank)


def reciprocal_rank(rank: Values) -> Values:
    """(Q,) 1 / rank, without a cut-off; its mean is the MRR.

    >>> reciprocal_rank(np.array([1.0, 2.0, 2.5])).tolist()
    [1.0, 0.5, 0.4]
    """
    return 1 / rank


def coverage(top: Rows, n_items: int) -> float:
    """Share of the catalog that is in anyone's first k: distinct items of `top` (Q, k) / n_items.

    Places that could not be filled hold -1 and do not count. By hand: items 0, 1 and 2 of 4 are shown.

    >>> coverage(np.array([[0, 1], [1, 2], [1, -1]]), 4)
    0.75
    """
    shown = np.unique(top)
    return float(np.count_nonzero(shown >= 0)) / n_items


def compute_metrics(rank: Values, cutoffs: tuple[int, ...]) -> dict[str, Values]:
    """Every per-query metric by its name in reports: `recall@k` and `ndcg@k` for each cut-off, then `mrr`."""
    values: dict[str, Values] = {}
    for k in cutoffs:
        values[f"recall@{k}"] = recall_at(rank, k)
        values[f"ndcg@{k}"] = ndcg_at(rank, k)
    return values | {"mrr": reciprocal_rank(rank)}
