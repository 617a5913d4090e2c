"""Nothing that was seen is lost, in whatever order it came."""

from __future__ import annotations

import numpy as np

from llmrec.inference.live.seen_items import SeenItems


def of(seen: SeenItems, user: int) -> list[int]:
    return sorted(seen.list_pairs(np.array([user]))[1].tolist())


def test_events_one_by_one_and_together() -> None:
    seen = SeenItems(2)
    seen.insert(1, 7)
    seen.insert_many(np.array([1, 0, 1]), np.array([3, 4, 5]))
    seen.grow_users(4)
    seen.insert(3, 9)
    seen.insert(1, 8)
    assert [of(seen, user) for user in range(4)] == [[4], [3, 5, 7, 8], [], [9]]
    place, item = seen.list_pairs(np.array([3, 0, 1]))
    assert sorted(zip(place.tolist(), item.tolist(), strict=True)) == [(0, 9), (1, 4), (2, 3), (2, 5), (2, 7), (2, 8)]


def test_a_user_is_forgotten_and_the_others_are_not() -> None:
    seen = SeenItems(3)
    seen.insert_many(np.array([0, 1, 2, 1]), np.array([1, 2, 3, 4]))
    seen.insert(1, 5)
    seen.forget(1)
    assert [of(seen, user) for user in range(3)] == [[1], [], [3]]
    seen.insert(1, 6)
    again = SeenItems(3)
    again.restore(seen.export_state())
    assert [of(again, user) for user in range(3)] == [[1], [6], [3]]
