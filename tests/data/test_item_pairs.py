"""Pairs of items that one user touched soon after each other: those that a hand would count."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from llmrec.data.interactions import Interactions
from llmrec.data.item_pairs import build_item_pairs, split_pairs

# User 0: 5 6 7 6; user 1: 5 8 at times between.
LOG = Interactions.sort(
    np.array([0, 0, 0, 0, 1, 1]), np.array([5, 6, 7, 6, 5, 8]), np.array([10, 20, 30, 40, 15, 35], dtype=np.int64)
)


def found(window: int) -> list[tuple[int, int, int]]:
    pairs = build_item_pairs(LOG, 2, window)
    return sorted((int(a), int(b), int(t)) for (a, b), t in zip(pairs.item, pairs.time, strict=True))


def test_pairs_are_those_counted_by_hand() -> None:
    assert found(1) == [(5, 6, 20), (5, 8, 35), (6, 7, 30), (7, 6, 40)]
    # 6 with 6 two steps on is no pair
    assert found(2) == [(5, 6, 20), (5, 7, 30), (5, 8, 35), (6, 7, 30), (7, 6, 40)]
    assert found(9) == sorted([*found(2), (5, 6, 40)])


def test_the_latest_are_held_out_and_one_times_stay_together() -> None:
    train, held = split_pairs(build_item_pairs(LOG, 2, 2), 0.4)
    assert sorted(train.time) == [20, 30, 30]
    assert sorted(held.time) == [35, 40]
    train, held = split_pairs(build_item_pairs(LOG, 2, 2), 0.7)  # the cut falls between two of time 30
    assert sorted(train.time) == [20]
    assert sorted(held.time) == [30, 30, 35, 40]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5)), max_size=30), st.integers(1, 6))
def test_every_pair_is_of_one_user_and_near(events: list[tuple[int, int]], window: int) -> None:
    user, item = np.array(events, dtype=np.int64).reshape(-1, 2).T
    log = Interactions.sort(user, item, np.arange(len(events)))
    expected = []
    for one in range(4):
        own = [int(i) for u, i in events if u == one]
        expected += [
            (own[a], own[b])
            for a in range(len(own))
            for b in range(a + 1, min(a + 1 + window, len(own)))
            if own[a] != own[b]
        ]
    assert sorted(map(tuple, build_item_pairs(log, 4, window).item.tolist())) == sorted(expected)
