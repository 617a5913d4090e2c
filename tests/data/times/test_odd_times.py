"""Times after now, and a few far from all others, are named by the log's facts."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from llmrec.config.data import DataConfig
from llmrec.data.loading import load_log
from llmrec.data.log import format_log_facts
from llmrec.data.times.odd_times import YEAR, describe_odd_times, find_far_ends

START = 1_600_000_000
YEAR_9999 = 253_370_764_800


def test_one_event_in_the_year_9999_is_named() -> None:
    times = np.array([*range(START, START + 118 * 3600, 3600), YEAR_9999])
    after, far = describe_odd_times(times, now=START + YEAR)
    assert after == "1 event is after now (9999-01-01T00:00:00Z)"
    assert far.startswith("1 event is far from all others (9999-01-01T00:00:00Z), 7,984 years after the rest")


def test_an_event_at_the_epoch_is_named() -> None:
    (line,) = describe_odd_times(np.array([0, *range(START, START + 100)]), now=START + YEAR)
    assert line.startswith("1 event is far from all others (1970-01-01T00:00:00Z), 51 years before the rest")


def test_a_log_of_the_seventies_is_named() -> None:
    (line,) = describe_odd_times(np.arange(100) * 100)
    assert line == (
        "their median is 1970-01-01, which is before any log; check time_unit and time_format, or set times: "
        "order_only if they are places in each user's order"
    )


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(0, 40 * YEAR), min_size=1, max_size=60), st.integers(0, 3), st.integers(0, 3))
def test_only_ends_beyond_the_span_of_the_rest_are_far(times: list[int], before: int, after: int) -> None:
    rest = np.sort(np.array(times)) + 100 * YEAR
    whole = np.concatenate([np.arange(before), rest, np.arange(after) + 300 * YEAR])
    first, last = find_far_ends(whole)
    assert 0 <= first <= 3
    assert len(whole) - last <= 3
    if len(whole) >= 20:
        assert (first >= before, last <= len(whole) - after) == (True, True)


def test_facts_name_them() -> None:
    events = {"user_id": ["a"] * 30, "item_id": [f"i{k}" for k in range(30)]}
    log_times = [*range(START, START + 29), YEAR_9999]
    items = pa.table({"item_id": events["item_id"], "title": events["item_id"]})
    log = load_log(DataConfig(source="memory"), (pa.table(events | {"timestamp": log_times}), items))
    assert len(log.facts.odd_times) == 2
    assert sum("9999-01-01" in line for line in format_log_facts(log.facts)) == 3  # both of them, and the last time
