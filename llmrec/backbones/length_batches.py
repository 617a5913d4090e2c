"""Padded batches of texts of similar length."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

BATCH_COSTS = 128  # tokens of MiniLM, forward and backward, on one core


def batch_by_length(
    lengths: NDArray[np.int64], tokens_at_once: int, *, batch_costs: int = BATCH_COSTS
) -> list[NDArray[np.int64]]:
    """Divide texts, sorted by length, into padded batches so that the total cost is minimal.

    A batch costs its tokens, with padding, plus `batch_costs`.

    Args:
        lengths: Number of tokens of each text, (N,).
        tokens_at_once: Maximum number of tokens of a batch of more than one text.
        batch_costs: Fixed cost of a batch, in tokens.

    Returns:
        Rows of each batch, in order of length.
    """
    order, widths = np.argsort(lengths, kind="stable"), np.maximum(lengths, 1)
    each, counts = np.unique(widths, return_counts=True)
    batches, end = [], len(order)
    for first, last in _iterate_groups(each, counts, tokens_at_once, batch_costs):
        n_texts = int(counts[first : last + 1].sum())
        n_batches = -(-n_texts // max(tokens_at_once // int(each[last]), 1))
        batches += np.array_split(order[end - n_texts : end], n_batches)[::-1]
        end -= n_texts
    return batches[::-1]


def _iterate_groups(
    each: NDArray[np.int64], counts: NDArray[np.int64], tokens_at_once: int, batch_costs: int
) -> Iterator[tuple[int, int]]:
    """Yield the first and last of the lengths that are padded to the same, longest first."""
    # Dynamic programming over the last group of the texts up to each length.
    before = np.concatenate([[0], np.cumsum(counts)])
    least, begins = np.zeros(len(each) + 1), np.zeros(len(each), dtype=np.int64)
    for last, width in enumerate(each):
        n_texts = before[last + 1] - before[: last + 1]  # of groups that start with each length
        n_batches = -(-n_texts // max(tokens_at_once // int(width), 1))
        costs = least[: last + 1] + n_texts * width + n_batches * batch_costs
        begins[last] = costs.argmin()
        least[last + 1] = costs[begins[last]]
    last = len(each) - 1
    while last >= 0:
        yield int(begins[last]), last
        last = int(begins[last]) - 1
