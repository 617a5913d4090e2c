"""Audit of a log before training: ties, leakage, duplicates, cold items and blind spots."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from llmrec.config.data import PiiConfig
from llmrec.config.split import SplitName
from llmrec.data.histories import Histories
from llmrec.data.interactions import Interactions
from llmrec.data.log import Log, LogFacts
from llmrec.data.pii import PiiRedactor
from llmrec.data.splits import Split, leave_one_out
from llmrec.data.times.timestamps import format_iso
from llmrec.errors import ConfigError, DataError
from llmrec.utils.arrays import Mask, Rows

WEEK = 7 * 86_400  # seconds
SHORT_TEXT = 4  # letters and digits; texts with fewer carry little information
TWIN_EVENTS = 3  # shorter histories are equal by chance
TOP = 100


@dataclass(frozen=True, slots=True)
class WeeklyColdShare:
    """Cold items in one week of the test part."""

    start: str
    """ISO date of the first day of the week."""
    n_events: int
    """Number of test events in the week."""
    cold_item_share: float
    """Share of these events on items without a training event, 0 to 1."""


@dataclass(frozen=True, slots=True)
class LeaveOneOutBlindSpots:
    """Leakage that a leave-one-out evaluation of the log would not show."""

    train_after_first_test: float
    """Share of training events later than the earliest test event, 0 to 1."""
    item_only_later: float
    """Share of test events on items whose training events are all later, 0 to 1."""


@dataclass(frozen=True, slots=True)
class Audit:
    """Findings about a log and one split of it."""

    facts: LogFacts
    """Size, times and fingerprint of the log."""
    split: SplitName
    """Name of the split that `cold` refers to."""
    tie_share: float
    """Share of a user's consecutive events that have the same time, 0 to 1."""
    repeated_pair_share: float
    """Share of events whose (user, item) pair occurred before, after `repeats` was applied, 0 to 1."""
    n_duplicate_texts: int
    """Number of items whose text another item has too."""
    n_short_texts: int
    """Number of items whose text has fewer than 4 letters or digits."""
    n_twin_users: int
    """Number of users with 3 or more events whose whole item sequence another user has too."""
    cold_item_share: float
    """Share of test events on items without a training event, 0 to 1."""
    cold_user_share: float
    """Share of test events by users without a training event, 0 to 1."""
    cold_by_week: tuple[WeeklyColdShare, ...]
    """Weeks of the test part that have events, in order of time."""
    top_items_kept: float
    """Jaccard overlap of the 100 most popular items of the first half and of the last tenth, 0 to 1."""
    leave_one_out: LeaveOneOutBlindSpots | None
    """Leakage of a leave-one-out split; None if no user has three events."""
    details: dict[str, int] | None
    """Number of personal details in item texts by kind; None if no library to find them is installed."""

    def to_dict(self) -> dict[str, Any]:
        """Convert to plain values, for JSON."""
        return asdict(self)


def audit_log(log: Log, split: Split) -> Audit:
    """Audit a log and a split of it.

    Args:
        log: The log.
        split: A split of the same log; its test part decides which items and users are cold.

    Returns:
        The findings.
    """
    events = log.interactions
    histories = Histories.from_interactions(events, log.n_users)
    test = split.test
    cold_item = split.cold_item_mask()[test.item]
    return Audit(
        facts=log.facts,
        split=split.name,
        tie_share=_compute_tie_share(histories),
        repeated_pair_share=1 - len(np.unique(events.user * log.n_items + events.item)) / len(events),
        n_duplicate_texts=_count_duplicate_texts(log),
        n_short_texts=_count_short_texts(log),
        n_twin_users=_count_twin_users(histories),
        cold_item_share=float(cold_item.mean()),
        cold_user_share=float(split.cold_user_mask()[test.user].mean()),
        cold_by_week=_compute_weekly_cold_shares(test, cold_item, split.test_start) if log.facts.has_times else (),
        top_items_kept=_compute_top_item_overlap(events, log.n_items),
        leave_one_out=_find_blind_spots(log) if log.facts.has_times else None,
        details=_count_pii(log),
    )


def _compute_tie_share(histories: Histories) -> float:
    same_user = np.diff(histories.user) == 0
    tied = (np.diff(histories.time) == 0) & same_user
    return float(tied.sum() / max(same_user.sum(), 1))


def _count_duplicate_texts(log: Log) -> int:
    counts = np.asarray(log.catalog.text_array.value_counts().field("counts"))
    return int(counts[counts > 1].sum())


def _count_short_texts(log: Log) -> int:
    kept = pc.replace_substring_regex(log.catalog.text_array, r"[^\pL\pN]", "")
    return int((np.asarray(pc.utf8_length(kept)) < SHORT_TEXT).sum())


def _count_twin_users(histories: Histories) -> int:
    position = np.arange(len(histories.item)) - histories.offset[histories.user]
    mixed = _splitmix64(_splitmix64(histories.item.astype(np.uint64)) + position.astype(np.uint64))
    running = np.concatenate([np.zeros(1, dtype=np.uint64), np.cumsum(mixed, dtype=np.uint64)])
    sums = running[histories.offset[1:]] - running[histories.offset[:-1]]
    long = np.diff(histories.offset) >= TWIN_EVENTS
    counts = np.unique(sums[long], return_counts=True)[1]
    return int(counts[counts > 1].sum())


def _count_pii(log: Log) -> dict[str, int] | None:
    counts = Counter[str]()
    try:
        PiiRedactor(PiiConfig()).redact_array(log.catalog.text_array, counts)
    except ConfigError:  # the libraries are not installed
        return None
    return dict(counts)


def _splitmix64(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Hash integers to 64 bits with the finalizer of splitmix64 (Steele et al., 2014), (E,)."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _compute_weekly_cold_shares(test: Interactions, cold: Mask, start: int) -> tuple[WeeklyColdShare, ...]:
    week = (test.time - start) // WEEK
    totals, colds = np.bincount(week), np.bincount(week, weights=cold)
    return tuple(
        WeeklyColdShare(format_iso(start + int(w) * WEEK)[:10], int(totals[w]), float(colds[w] / totals[w]))
        for w in np.flatnonzero(totals)
    )


def _compute_top_item_overlap(events: Interactions, n_items: int) -> float:
    early = _find_top_items(events.item[: len(events) // 2], n_items)
    late = _find_top_items(events.item[-max(len(events) // 10, 1) :], n_items)
    return len(early & late) / max(len(early | late), 1)


def _find_top_items(items: Rows, n_items: int) -> set[int]:
    counts = np.bincount(items, minlength=n_items)
    order = np.argsort(-counts, kind="stable")[:TOP]
    return set(order[counts[order] > 0].tolist())


def _find_blind_spots(log: Log) -> LeaveOneOutBlindSpots | None:
    try:
        split = leave_one_out(log.interactions, log.n_users, log.n_items)
    except DataError:
        return None
    train, test = split.train, split.test
    items, first = np.unique(train.item, return_index=True)
    first_time = np.full(log.n_items, np.iinfo(np.int64).min)  # items that training lacks are cold, not hidden
    first_time[items] = train.time[first]
    return LeaveOneOutBlindSpots(
        train_after_first_test=float((train.time > split.test_start).mean()),
        item_only_later=float((first_time[test.item] > test.time).mean()),
    )
