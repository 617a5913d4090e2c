"""What is wrong with a log, before anything is trained on it: ties, leakage, duplicates, cold items, hidden futures."""

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
from llmrec.data.timestamps import format_iso
from llmrec.errors import ConfigError, DataError
from llmrec.utils.arrays import Mask, Rows

WEEK = 7 * 86_400  # seconds
SHORT_TEXT = 4  # fewer letters and digits than this say next to nothing
TWIN_EVENTS = 3  # shorter histories are alike by chance
TOP = 100


@dataclass(frozen=True, slots=True)
class WeeklyColdShare:
    """A week of the test window. start: ISO date; cold_item_share: of its events, on items training never saw."""

    start: str
    n_events: int
    cold_item_share: float


@dataclass(frozen=True, slots=True)
class LeaveOneOutBlindSpots:
    """What a leave-one-out evaluation of this log would not show.

    train_after_first_test: share of training events later than the earliest test event.
    item_only_later: share of test events on items all of whose training events are later.
    """

    train_after_first_test: float
    item_only_later: float


@dataclass(frozen=True, slots=True)
class Audit:
    """Shares are from 0 to 1.

    tie_share: of consecutive events of a user, those with the same time.
    repeated_pair_share: of events, those whose user had touched the item before (after `repeats` was applied).
    n_duplicate_texts: items whose text another item has too; n_short_texts: with fewer than 4 letters or digits.
    n_twin_users: users with 3 or more events whose whole sequence of items another user has too.
    cold_item_share, cold_user_share: of test events, on items or by users without a training event.
    cold_by_week: weeks of the test window that have events, in order.
    top_items_kept: Jaccard overlap of the 100 most popular items of the first half and of the last tenth of events.
    leave_one_out: None where no user has the three events it takes.
    details: personal ones that are in item texts, by kind; None where nothing is installed to look for them.
    """

    facts: LogFacts
    split: SplitName
    tie_share: float
    repeated_pair_share: float
    n_duplicate_texts: int
    n_short_texts: int
    n_twin_users: int
    cold_item_share: float
    cold_user_share: float
    cold_by_week: tuple[WeeklyColdShare, ...]
    top_items_kept: float
    leave_one_out: LeaveOneOutBlindSpots | None
    details: dict[str, int] | None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def audit_log(log: Log, split: Split) -> Audit:
    """Look a log over. split: one of the same log; its test part is what "cold" is told of."""
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
        cold_by_week=_compute_weekly_cold_shares(test, cold_item, split.test_start),
        top_items_kept=_compute_top_item_overlap(events, log.n_items),
        leave_one_out=_find_blind_spots(log),
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
    except ConfigError:  # it is not installed
        return None
    return dict(counts)


def _splitmix64(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """(E,) 64-bit hashes: the finaliser of splitmix64 (Steele et al., 2014)."""
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
