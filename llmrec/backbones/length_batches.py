"""Texts of similar length in padded batches."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

BATCH_COSTS = 128  # tokens of MiniLM, forth and back, on one core


def batch_by_length(
    lengths: NDArray[np.int64], tokens_at_once: int, batch_costs: int = BATCH_COSTS
) -> list[NDArray[np.int64]]:
    """Rows sorted by length, cut into padded batches of at most `tokens_at_once` tokens, or of one text, of which each
    costs as much as `batch_costs` tokens beside its own, padding included; so that all cost least.
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
    """Which of the increasing lengths are padded to the same, first and last of them, from the longest on: by dynamic
    programming over the last group of the texts up to a length.
    """
    before = np.concatenate([[0], np.cumsum(counts)])
    least, begins = np.zeros(len(each) + 1), np.zeros(len(each), dtype=np.int64)
    for last, width in enumerate(each):
        n_texts = before[last + 1] - before[: last + 1]  # of groups that begin with each length
        n_batches = -(-n_texts // max(tokens_at_once // int(width), 1))
        costs = least[: last + 1] + n_texts * width + n_batches * batch_costs
        begins[last] = costs.argmin()
        least[last + 1] = costs[begins[last]]
    last = len(each) - 1
    while last >= 0:
        yield int(begins[last]), last
        last = int(begins[last]) - 1
