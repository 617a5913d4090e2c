"""Slices of queries that a mean over all would hide: new items, new users, short histories, and when it is asked."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from llmrec.data.histories import Queries
from llmrec.data.interactions import Interactions
from llmrec.data.splits import Split
from llmrec.utils.arrays import Mask, Rows, concat_ranges
from llmrec.utils.units import SECONDS_PER_DAY

HISTORY_BUCKETS: Buckets = {"0": (0, 0), "1-4": (1, 4), "5-9": (5, 9), "10-19": (10, 19), "20+": (20, np.inf)}


Buckets = Mapping[str, tuple[float, float]]  # name -> least and most, both inside
CUTOFF_BUCKETS: Buckets = {"14-29": (14, 29), "30-89": (30, 89), "90+": (90, np.inf)}
GAP_BUCKETS: Buckets = {"same_day": (0, 0), "1-6": (1, 6), "7-29": (7, 29), "30-89": (30, 89), "90+": (90, np.inf)}
AGE_BUCKETS: Buckets = {"new": (-1, -1), "0-29": (0, 29), "30-179": (30, 179), "180+": (180, np.inf)}
MIN_EVENTS = 4  # of a history that has two halves to compare
_QUERIES_AT_ONCE = 4096


def make_slices(split: Split, queries: Queries, text: Tensor | None = None) -> dict[str, Mask]:
    """Name -> (Q,) mask; empty slices are left out.

    `cold_item` and `cold_user` have no event in the training part of `split`: give the split that the evaluated
    model was fitted on (`split.merge_validation()` after a refit). `history_*` counts the events before the query,
    those after the cut-off included, so that a cold user can have a history. Only a split by time has a cut-off to
    count days from.

    text: (N, D) of the catalog; without it nobody can say how far interest moved.
    """
    slices = {"overall": np.ones(len(queries), dtype=np.bool_)} | _split_warm_and_cold(split, queries)
    slices |= slice_by_buckets("history", queries.end - queries.start, HISTORY_BUCKETS)
    if split.name == "by_time":
        slices |= slice_by_days_since_cutoff(queries, split.test_start)
    slices |= slice_by_gap(queries) | slice_by_item_age(queries, split.interactions)
    if text is not None:
        slices |= slice_by_interest_shift(queries, text)
    return {name: mask for name, mask in slices.items() if mask.any()}


def _split_warm_and_cold(split: Split, queries: Queries) -> dict[str, Mask]:
    cold_item, cold_user = split.cold_item_mask()[queries.target], split.cold_user_mask()[queries.user]
    return {"warm_item": ~cold_item, "cold_item": cold_item, "warm_user": ~cold_user, "cold_user": cold_user}


def slice_by_buckets(prefix: str, value: Rows, buckets: Buckets) -> dict[str, Mask]:
    """Of whole numbers (Q,)."""
    return {f"{prefix}_{name}": (value >= least) & (value <= most) for name, (least, most) in buckets.items()}


def slice_by_days_since_cutoff(queries: Queries, test_start: int) -> dict[str, Mask]:
    """Days since the cut-off: `first_14_days` is where a model that stands still is at its best."""
    days = (queries.time - test_start) // SECONDS_PER_DAY
    return {"first_14_days": (days >= 0) & (days < 14)} | slice_by_buckets("days_since_cutoff", days, CUTOFF_BUCKETS)


def slice_by_gap(queries: Queries) -> dict[str, Mask]:
    """Calendar days (UTC) since the user's last event before the query; those without history are in none."""
    known = queries.end > queries.start
    gap = np.full(len(queries), -1)
    last = queries.histories.time[queries.end[known] - 1]
    gap[known] = queries.time[known] // SECONDS_PER_DAY - last // SECONDS_PER_DAY
    return slice_by_buckets("gap", gap, GAP_BUCKETS)


def slice_by_item_age(queries: Queries, log: Interactions) -> dict[str, Mask]:
    """Days since the target's first event in the log, of whatever part; `new` has none strictly before the query."""
    item, first = np.unique(log.item, return_index=True)  # the log is in order of time
    born = log.time[first[np.searchsorted(item, queries.target)]]  # a target is an event of the log
    return slice_by_buckets(
        "item_age", np.where(born < queries.time, (queries.time - born) // SECONDS_PER_DAY, -1), AGE_BUCKETS
    )


def slice_by_interest_shift(queries: Queries, text: Tensor) -> dict[str, Mask]:
    """Terciles of how far interest moved: 1 - cosine of the mean text vectors of a history's two halves.

    Queries with fewer than MIN_EVENTS events before them are in none; of an odd number the later half has one more.

    text: (N, D) of the catalog.
    """
    asked = np.flatnonzero(queries.end - queries.start >= MIN_EVENTS)
    if not len(asked):
        return {}
    moved = np.full(len(queries), np.nan)
    vectors = text.cpu().numpy()
    for start in range(0, len(asked), _QUERIES_AT_ONCE):
        rows = asked[start : start + _QUERIES_AT_ONCE]
        moved[rows] = _interest_shift(queries.take(rows), vectors)
    low, high = np.quantile(moved[asked], [1 / 3, 2 / 3])
    return {
        "interest_steady": moved <= low,
        "interest_shifting": (moved > low) & (moved <= high),
        "interest_moved": moved > high,
    }


def _interest_shift(queries: Queries, vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    """(B,)"""
    middle = queries.start + (queries.end - queries.start) // 2
    early = _sum_vectors(queries, queries.start, middle, vectors)
    late = _sum_vectors(queries, middle, queries.end, vectors)
    length = np.linalg.norm(early, axis=1) * np.linalg.norm(late, axis=1)
    cosine: NDArray[np.float64] = (early * late).sum(axis=1) / np.maximum(length, np.finfo(np.float64).tiny)
    return 1 - cosine


def _sum_vectors(queries: Queries, start: Rows, end: Rows, vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    """(B, D) of the items between two positions; a cosine is the same of sums as of means."""
    lengths = end - start
    item = queries.histories.item[np.repeat(start, lengths) + concat_ranges(lengths)]
    which = np.repeat(np.arange(len(queries)), lengths), item
    chosen = sparse.csr_array((np.ones(len(item)), which), shape=(len(queries), len(vectors)))
    total: NDArray[np.float64] = chosen @ vectors
    return total
