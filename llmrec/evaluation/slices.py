"""Slices of queries that an overall mean hides: new items, new users, short histories and query times."""

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

COLD_POOL = "cold_among_cold"  # cold targets, ranked among cold items alone
HISTORY_BUCKETS: Buckets = {"0": (0, 0), "1-4": (1, 4), "5-9": (5, 9), "10-19": (10, 19), "20+": (20, np.inf)}


Buckets = Mapping[str, tuple[float, float]]  # name to minimum and maximum, both included
CUTOFF_BUCKETS: Buckets = {"14-29": (14, 29), "30-89": (30, 89), "90+": (90, np.inf)}
GAP_BUCKETS: Buckets = {"same_day": (0, 0), "1-6": (1, 6), "7-29": (7, 29), "30-89": (30, 89), "90+": (90, np.inf)}
AGE_BUCKETS: Buckets = {"new": (-1, -1), "0-29": (0, 29), "30-179": (30, 179), "180+": (180, np.inf)}
MIN_EVENTS = 4  # of a history with two halves to compare
_QUERIES_AT_ONCE = 4096


def make_slices(
    split: Split, queries: Queries, *, text: Tensor | None = None, has_times: bool = True
) -> dict[str, Mask]:
    """Divide queries into slices; empty ones are left out.

    `cold_among_cold` has the queries of `cold_item`, whose targets are ranked among cold items alone.
    `cold_item` and `cold_user` have no event in the training part of `split`. `history_*` counts the events before the
    query, including those after the cutoff, so that a cold user can have a history. Days since the cutoff exist only
    for a
    split by time.

    Args:
        split: Split that the evaluated model was fitted on (`split.merge_validation()` after a refit).
        queries: Queries, Q of them.
        text: Text vectors of the catalog, (N, D); without them, slices by interest shift are left out.
        has_times: False for a log without times; slices by time are left out then.

    Returns:
        Mask of the queries, (Q,), by name of the slice.
    """
    slices = {"overall": np.ones(len(queries), dtype=np.bool_)} | _split_warm_and_cold(split, queries)
    slices |= slice_by_buckets("history", queries.end - queries.start, HISTORY_BUCKETS)
    if split.name == "by_time":
        slices |= slice_by_days_since_cutoff(queries, split.test_start)
    if has_times:
        slices |= slice_by_gap(queries) | slice_by_item_age(queries, split.interactions)
    if text is not None:
        slices |= slice_by_interest_shift(queries, text)
    return {name: mask for name, mask in slices.items() if mask.any()}


def _split_warm_and_cold(split: Split, queries: Queries) -> dict[str, Mask]:
    cold_item, cold_user = split.cold_item_mask()[queries.target], split.cold_user_mask()[queries.user]
    items = {"warm_item": ~cold_item, "cold_item": cold_item, COLD_POOL: cold_item}
    return items | {"warm_user": ~cold_user, "cold_user": cold_user}


def slice_by_buckets(prefix: str, value: Rows, buckets: Buckets) -> dict[str, Mask]:
    """Divide queries by whole numbers.

    Args:
        prefix: Start of the names of the slices.
        value: Number of each query, (Q,).
        buckets: Minimum and maximum by name.

    Returns:
        Mask, (Q,), by name.
    """
    return {f"{prefix}_{name}": (value >= least) & (value <= most) for name, (least, most) in buckets.items()}


def slice_by_days_since_cutoff(queries: Queries, test_start: int) -> dict[str, Mask]:
    """Divide queries by days since the cutoff; `first_14_days` is best for a model that is not updated.

    Args:
        queries: Queries, Q of them.
        test_start: Time of the cutoff in seconds.

    Returns:
        Mask, (Q,), by name.
    """
    days = (queries.time - test_start) // SECONDS_PER_DAY
    return {"first_14_days": (days >= 0) & (days < 14)} | slice_by_buckets("days_since_cutoff", days, CUTOFF_BUCKETS)


def slice_by_gap(queries: Queries) -> dict[str, Mask]:
    """Divide queries by calendar days (UTC) since the user's last event; those without one are left out.

    Args:
        queries: Queries, Q of them.

    Returns:
        Mask, (Q,), by name.
    """
    known = queries.end > queries.start
    gap = np.full(len(queries), -1)
    last = queries.histories.time[queries.end[known] - 1]
    gap[known] = queries.time[known] // SECONDS_PER_DAY - last // SECONDS_PER_DAY
    return slice_by_buckets("gap", gap, GAP_BUCKETS)


def slice_by_item_age(queries: Queries, log: Interactions) -> dict[str, Mask]:
    """Divide queries by days since the target's first event in the log; `new` items have none before.

    Args:
        queries: Queries, Q of them.
        log: Events of all parts, in time order.

    Returns:
        Mask, (Q,), by name.
    """
    item, first = np.unique(log.item, return_index=True)  # the log is in time order
    born = log.time[first[np.searchsorted(item, queries.target)]]  # a target is an event of the log
    return slice_by_buckets(
        "item_age", np.where(born < queries.time, (queries.time - born) // SECONDS_PER_DAY, -1), AGE_BUCKETS
    )


def slice_by_interest_shift(queries: Queries, text: Tensor) -> dict[str, Mask]:
    """Divide queries into terciles of interest shift.

    The shift is 1 - cosine of the mean text vectors of the two halves of a history. Queries with fewer than MIN_EVENTS
    events are in no slice; of an odd number, the later half has one more.

    Args:
        queries: Queries, Q of them.
        text: Text vectors of the catalog, (N, D).

    Returns:
        Mask, (Q,), by name.
    """
    measured = np.flatnonzero(queries.end - queries.start >= MIN_EVENTS)
    if not len(measured):
        return {}
    moved = np.full(len(queries), np.nan)
    vectors = text.cpu().numpy()
    for start in range(0, len(measured), _QUERIES_AT_ONCE):
        rows = measured[start : start + _QUERIES_AT_ONCE]
        moved[rows] = _interest_shift(queries.take(rows), vectors)
    low, high = np.quantile(moved[measured], [1 / 3, 2 / 3])
    return {
        "interest_steady": moved <= low,
        "interest_shifting": (moved > low) & (moved <= high),
        "interest_moved": moved > high,
    }


def _interest_shift(queries: Queries, vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    """Compute the interest shift of each query (B,)."""
    middle = queries.start + (queries.end - queries.start) // 2
    early = _sum_vectors(queries, queries.start, middle, vectors)
    late = _sum_vectors(queries, middle, queries.end, vectors)
    length = np.linalg.norm(early, axis=1) * np.linalg.norm(late, axis=1)
    cosine: NDArray[np.float64] = (early * late).sum(axis=1) / np.maximum(length, np.finfo(np.float64).tiny)
    return 1 - cosine


def _sum_vectors(queries: Queries, start: Rows, end: Rows, vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    """Sum the text vectors between two positions (B, D); a cosine is the same for sums as for means."""
    lengths = end - start
    item = queries.histories.item[np.repeat(start, lengths) + concat_ranges(lengths)]
    which = np.repeat(np.arange(len(queries)), lengths), item
    chosen = sparse.csr_array((np.ones(len(item)), which), shape=(len(queries), len(vectors)))
    total: NDArray[np.float64] = chosen @ vectors
    return total
