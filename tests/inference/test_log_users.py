"""The users of a log as of a time, and whom of them to show an item."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from llmrec.data.log import Log
from llmrec.data.synthetic_log import make_synthetic_log
from llmrec.errors import BundleError, ConfigError, DataError
from llmrec.inference.log_users import LogUsers
from llmrec.recommender import Recommender

NEW = {"text": "space love"}


def histories(log: Log, before: int | None = None) -> dict[str, list[tuple[str, int]]]:
    """Every user's events, from the log itself."""
    found: dict[str, list[tuple[str, int]]] = {}
    events = log.interactions
    for user, item, time in zip(events.user.tolist(), events.item.tolist(), events.time.tolist(), strict=True):
        if before is None or time < before:
            found.setdefault(str(log.user_ids[user]), []).append((str(log.catalog.ids[item]), time))
    return found


def test_users_are_those_with_events_before_the_time(recommender: Recommender, log: Log) -> None:
    for at in (None, int(log.interactions.time[0]) + 1, int(np.median(log.interactions.time))):
        users, expected = LogUsers.from_log(log, recommender.catalog.items, at), histories(log, at)
        assert {users.user_id(place) for place in range(len(users))} == set(expected)
        for place in range(len(users)):
            history = expected[users.user_id(place)]
            assert users.find_user(users.user_id(place)) == place
            assert [f"i{row}" for row in users.user_items(place)] == [item for item, _ in history]
            assert users.queries.time[place] == (history[-1][1] if at is None else at)


@pytest.mark.parametrize("item", ["i7", NEW])
def test_the_audience_are_those_whose_next_it_is_likeliest_to_be(
    recommender: Recommender, log: Log, item: str | dict[str, str]
) -> None:
    at = int(np.median(log.interactions.time))
    expected = {}
    before = histories(log, at)
    for user, history in before.items():
        scores = np.array(recommender.score(history, [*recommender.catalog.ids.to_pylist(), item], at=at))
        others = scores[:-1] if isinstance(item, str) else scores  # a new item is one more
        log_probability = -np.log(np.exp(others - scores[-1]).sum())
        expected[user] = (log_probability, 1 + int((scores[:-1] > scores[-1] + 1e-5).sum()), len(history))
    mean = np.mean([np.exp(value) for value, *_ in expected.values()])
    held = {user for user, history in before.items() if item in [event[0] for event in history]}
    assert bool(held) is isinstance(item, str)
    order = sorted(expected.keys() - held, key=lambda user: -expected[user][0])
    found = recommender.audience(item, k=99, at=at, log=log)
    assert [one.user for one in found] == order
    for one in found:
        log_probability, place, n_events = expected[one.user]
        assert one.log_probability == pytest.approx(log_probability, abs=1e-4)
        assert one.lift == pytest.approx(np.exp(log_probability) / mean, rel=1e-3)
        assert (one.place, one.n_events) == (place, n_events)
    assert recommender.audience(item, k=3, at=at, log=log) == found[:3]


def test_scores_of_different_users_are_not_compared_as_they_are(recommender: Recommender, log: Log) -> None:
    """What raises all of a user's logits alike raises nobody in the list."""
    before = recommender.audience(NEW, k=30, log=log)
    recommender.catalog.bundle.model.novelty += (
        5  # all new items gain, and those of the catalog that are new to training
    )
    after = {one.user: one.log_probability for one in recommender.audience(NEW, k=30, log=log)}
    assert all(after[one.user] > one.log_probability for one in before)
    assert all(value < 0 for value in after.values())  # a chance is never above 1


def test_mistakes_are_named(recommender: Recommender, log: Log, load: Callable[..., Recommender]) -> None:
    with pytest.raises(ConfigError, match="has no events before it; the first is at 20"):
        recommender.audience("i1", at="1980-01-01", log=log)
    with pytest.raises(ConfigError, match="k=0"):
        recommender.audience("i1", k=0, log=log)
    with pytest.raises(DataError, match="nope"):
        recommender.audience("nope", log=log)
    wider = make_synthetic_log(n_users=30, n_items=60, events_per_user=6)[0]
    with pytest.raises(DataError, match="events on items that the bundle lacks"):
        recommender.audience("i1", log=wider)
    with pytest.raises(DataError, match="nowhere"):  # the bundle's own log is gone
        recommender.audience("i1")
    with pytest.raises(BundleError, match="item ids only"):
        load("none").audience(NEW, log=log)
    assert len(load("none").audience("i1", log=log)) == 10
