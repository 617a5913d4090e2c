"""As-of histories: nothing from the query time or later, and the fast paths agree with naive loops."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmrec.data.histories import Histories, Queries, make_queries
from llmrec.data.interactions import Interactions
from llmrec.data.splits import TEST, TRAIN, VALID, Split, leave_one_out
from llmrec.errors import DataError

N_USERS, N_ITEMS = 4, 6
events = st.tuples(st.integers(0, N_USERS - 1), st.integers(0, N_ITEMS - 1), st.integers(0, 8))
event_lists = st.lists(events, min_size=1, max_size=40)


def log_of(events: list[tuple[int, int, int]]) -> Interactions:
    columns = [np.array(column, dtype=np.int64) for column in zip(*events, strict=True)]
    return Interactions.sort(*columns)


def split_of(events: list[tuple[int, int, int]], part: list[int]) -> Split:
    return Split("by_time", log_of(events), np.array(part, dtype=np.int8), N_USERS, N_ITEMS, 0, 0)


def histories_of(queries: Queries) -> list[list[int]]:
    return [queries.histories.item[s:e].tolist() for s, e in zip(queries.start, queries.end, strict=True)]


@settings(deadline=None)
@given(event_lists)
def test_strict_histories_are_the_events_before_the_query_time(events: list[tuple[int, int, int]]) -> None:
    split = split_of(events, [TEST] * len(events))
    log, queries = split.interactions, make_queries(split, TEST)
    naive = [
        log.item[(log.user == user) & (log.time < time)].tolist() for user, time in zip(log.user, log.time, strict=True)
    ]
    assert histories_of(queries) == naive
    np.testing.assert_array_equal(queries.target, log.item)


@settings(deadline=None)
@given(event_lists)
def test_file_order_histories_are_the_events_before_in_the_log(events: list[tuple[int, int, int]]) -> None:
    split = split_of(events, [TEST] * len(events))
    log = split.interactions
    naive = [log.item[:row][log.user[:row] == log.user[row]].tolist() for row in range(len(log))]
    assert histories_of(make_queries(split, TEST, ties="file_order")) == naive


def test_histories_hold_events_of_every_part_but_queries_only_of_one() -> None:
    split = split_of([(0, 1, 1), (0, 2, 2), (1, 3, 2), (0, 4, 3)], [TRAIN, VALID, TRAIN, TEST])
    queries = make_queries(split, TEST)
    assert (queries.user.tolist(), queries.time.tolist(), queries.target.tolist()) == ([0], [3], [4])
    assert histories_of(queries) == [[1, 2]]


def test_ties_by_hand() -> None:
    log = log_of([(0, 5, 1), (0, 3, 2), (1, 0, 2), (0, 4, 2), (0, 2, 3)])
    histories = Histories.from_interactions(log, 2)
    assert histories.item.tolist() == [5, 3, 4, 2, 0]
    assert histories.offset.tolist() == [0, 4, 5]
    assert histories.event.tolist() == [0, 1, 3, 4, 2]
    assert histories.user.tolist() == [0, 0, 0, 0, 1]
    assert histories.find_history_ends("strict").tolist() == [0, 1, 1, 3, 4]
    assert histories.find_history_ends("file_order").tolist() == [0, 1, 2, 3, 4]


@settings(deadline=None)
@given(event_lists, st.integers(1, 5))
def test_last_and_seen_agree_with_loops(events: list[tuple[int, int, int]], n: int) -> None:
    queries = make_queries(split_of(events, [TEST] * len(events)), TEST)
    whole = histories_of(queries)
    positions, mask = queries.last_positions(n)
    assert positions.shape == mask.shape
    found = [queries.histories.item[p[m]].tolist() for p, m in zip(positions, mask, strict=True)]
    assert found == [history[-n:] for history in whole]
    assert not (mask[:, 1:] & ~mask[:, :-1]).any()  # padded right
    query, item = queries.list_seen_pairs()
    assert list(zip(query.tolist(), item.tolist(), strict=True)) == [
        (q, item) for q, history in enumerate(whole) for item in history
    ]


def test_take_keeps_the_histories() -> None:
    queries = make_queries(split_of([(0, 1, 1), (0, 2, 2), (0, 3, 3)], [TEST] * 3), TEST)
    assert histories_of(queries.take(np.array([2, 0]))) == [[1, 2], []]
    assert queries.take(slice(1)).target.tolist() == [1]
    assert len(queries.take(np.zeros(3, dtype=np.bool_))) == 0


@pytest.mark.parametrize("ties", ["strict", "file_order"])
def test_leave_one_out_queries_come_after_their_history(ties: str) -> None:
    log = log_of([(u, (u + t) % N_ITEMS, t // 2) for t in range(6) for u in range(N_USERS)])
    queries = make_queries(leave_one_out(log, N_USERS, N_ITEMS), TEST, ties=ties)
    assert [len(history) for history in histories_of(queries)] == [4 if ties == "strict" else 5] * N_USERS


@settings(deadline=None)
@given(event_lists)
def test_nothing_is_mutated(events: list[tuple[int, int, int]]) -> None:
    log = log_of(events)
    for column in (log.user, log.item, log.time):
        column.setflags(write=False)
    try:
        split = leave_one_out(log, N_USERS, N_ITEMS)
    except DataError:
        return
    split.part.setflags(write=False)
    make_queries(split, VALID).last_positions(3)
