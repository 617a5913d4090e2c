"""What is dropped from a log, against naive loops."""

from unittest.mock import patch

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from llmrec.data import filters
from llmrec.data.filters import drop_repeats, renumber
from llmrec.data.interactions import Interactions

events = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 4)), min_size=1, max_size=60)


def log_of(rows: list[tuple[int, int]]) -> Interactions:
    user, item = (np.array(column, dtype=np.int64) for column in zip(*rows, strict=True))
    return Interactions(user, item, np.arange(len(rows)))


@given(events, st.sampled_from([1, 7, 1000]))
@settings(max_examples=60, deadline=None)
def test_the_first_event_of_each_pair_stays(rows: list[tuple[int, int]], at_once: int) -> None:
    with patch.object(filters, "CHUNK_ROWS", at_once):
        kept = drop_repeats(log_of(rows), 5)
    assert kept.time.tolist() == [at for at, pair in enumerate(rows) if pair not in rows[:at]]


@given(events)
@settings(max_examples=60, deadline=None)
def test_users_are_numbered_by_appearance(rows: list[tuple[int, int]]) -> None:
    numbered, old = renumber(log_of(rows))
    assert old.tolist() == list(dict.fromkeys(user for user, _ in rows))
    assert old[numbered.user].tolist() == [user for user, _ in rows]
