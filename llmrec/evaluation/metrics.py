"""Metrics of a ranking, for each query.

Ranks are floats from 1: an item tied with others has their mean rank. Each query has one target, so that recall is a
hit rate and the ideal DCG is 1.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from llmrec.utils.arrays import Rows

Values = NDArray[np.float64]


def recall_at(rank: Values, k: int) -> Values:
    """Compute recall@k = [rank <= k].

    Args:
        rank: Rank of each target, (Q,).
        k: Number of items.

    Returns:
        1 if the target is among the first k, else 0, (Q,).

    Example:
        >>> recall_at(np.array([1.0, 10.0, 10.5, 11.0]), 10).tolist()
        [1.0, 1.0, 0.0, 0.0]
    """
    return (rank <= k).astype(np.float64)


def ndcg_at(rank: Values, k: int) -> Values:
    """Compute NDCG@k = [rank <= k] / log2(1 + rank).

    Args:
        rank: Rank of each target, (Q,).
        k: Number of items.

    Returns:
        Values from 0 to 1, (Q,).

    Example:
        By hand: rank 1 gives 1 / log2(2) = 1, rank 3 gives 1 / log2(4) = 0.5, rank 11 is outside.

        >>> ndcg_at(np.array([1.0, 3.0, 11.0]), 10).tolist()
        [1.0, 0.5, 0.0]
    """
    return recall_at(rank, k) / np.log2(1 + rank)


def reciprocal_rank(rank: Values) -> Values:
    """Compute 1 / rank without a cutoff; its mean is the MRR.

    Args:
        rank: Rank of each target, (Q,).

    Returns:
        Values from 0 to 1, (Q,).

    Example:
        >>> reciprocal_rank(np.array([1.0, 2.0, 2.5])).tolist()
        [1.0, 0.5, 0.4]
    """
    return 1 / rank


def coverage(top: Rows, n_items: int) -> float:
    """Compute the share of the catalog that is among the first k items of any query.

    Args:
        top: Item rows, (Q, k); -1 for places without an item, which do not count.
        n_items: Number of items of the catalog.

    Returns:
        Distinct items of `top` / n_items, 0 to 1.

    Example:
        By hand: items 0, 1 and 2 of 4 are shown.

        >>> coverage(np.array([[0, 1], [1, 2], [1, -1]]), 4)
        0.75
    """
    shown = np.unique(top)
    return float(np.count_nonzero(shown >= 0)) / n_items


def compute_metrics(rank: Values, cutoffs: tuple[int, ...]) -> dict[str, Values]:
    """Compute every metric by its name in reports: `recall@k` and `ndcg@k` for each k, then `mrr`.

    Args:
        rank: Rank of each target, (Q,).
        cutoffs: Values of k.

    Returns:
        Values, (Q,), by name.
    """
    values: dict[str, Values] = {}
    for k in cutoffs:
        values[f"recall@{k}"] = recall_at(rank, k)
        values[f"ndcg@{k}"] = ndcg_at(rank, k)
    return values | {"mrr": reciprocal_rank(rank)}
