"""The planted world keeps what it promises: the chain, the clock, the titles, the late items."""

from __future__ import annotations

import numpy as np
import pytest

from llmrec.data.log import Log
from llmrec.data.splits import split_by_time
from llmrec.data.synthetic_log import SHARED, START, YEAR, SyntheticTruth, make_synthetic_log
from llmrec.errors import ConfigError
from llmrec.utils.arrays import Rows


@pytest.fixture(scope="module")
def world() -> tuple[Log, SyntheticTruth]:
    return make_synthetic_log()


def topic_steps(log: Log, truth: SyntheticTruth) -> tuple[Rows, Rows, Rows]:
    """Topic before, topic after, and time of every step of every user."""
    events = log.interactions
    by_user = np.argsort(events.user, kind="stable")
    topic, same = truth.item_topic[events.item[by_user]], np.diff(events.user[by_user]) == 0
    return topic[:-1][same], topic[1:][same], events.time[by_user][1:][same]


def step_shares(before: Rows, after: Rows, n_topics: int) -> np.ndarray:
    counts = np.zeros((n_topics, n_topics))
    np.add.at(counts, (before, after), 1)
    return counts / counts.sum(axis=1, keepdims=True)


def test_sizes_and_clock(world: tuple[Log, SyntheticTruth]) -> None:
    log, truth = world
    assert (log.facts.n_events, log.n_users, log.n_items, log.facts.resolution) == (2400, 200, 120, "second")
    assert log.interactions.time.min() >= START
    assert log.interactions.time.max() < START + YEAR
    assert set(np.bincount(log.interactions.user)) == {12}
    assert set(np.bincount(truth.item_topic)) == {20}


def test_a_seed_is_a_world() -> None:
    first, again, other = (make_synthetic_log(30, 30, n_topics=3, seed=seed)[0].facts.fingerprint for seed in (1, 1, 2))
    assert first == again != other


def test_topics_follow_the_planted_chain() -> None:
    log, truth = make_synthetic_log(n_users=2000, seed=3)
    before, after, _ = topic_steps(log, truth)
    np.testing.assert_allclose(truth.transitions.sum(axis=1), 1)
    np.testing.assert_allclose(step_shares(before, after, 6), truth.transitions, atol=0.03)
    np.testing.assert_array_equal(truth.transitions_at(START + YEAR // 2), truth.transitions)


def test_drift_turns_the_chain_over_the_year() -> None:
    log, truth = make_synthetic_log(n_users=2000, seed=3, drift=1.0)
    before, after, time = topic_steps(log, truth)
    for early, late in ((0.0, 0.3), (0.7, 1.0)):
        within = (time >= START + early * YEAR) & (time < START + late * YEAR)
        expected = truth.transitions_at(START + int((early + late) / 2 * YEAR))
        np.testing.assert_allclose(expected.sum(axis=1), 1)
        np.testing.assert_allclose(step_shares(before[within], after[within], 6), expected, atol=0.08)


def test_nobody_touches_an_item_twice_or_before_its_release(world: tuple[Log, SyntheticTruth]) -> None:
    log, _ = world
    events = log.interactions
    assert len(np.unique(events.user * log.n_items + events.item)) == len(events)
    assert log.catalog.release_time is not None
    assert (log.catalog.release_time[events.item] <= events.time).all()


def test_some_items_are_cold(world: tuple[Log, SyntheticTruth]) -> None:
    log, _ = world
    split = split_by_time(log.interactions, log.n_users, log.n_items)
    assert split.cold_item_mask()[split.test.item].mean() > 0.05


def test_titles_need_reading(world: tuple[Log, SyntheticTruth]) -> None:
    """Word vectors averaged over a title find an item of the same topic about half the time, its own words always."""
    log, truth = world
    titles = [text.split() for text in log.catalog.list_texts()]
    words = sorted({word for title in titles for word in title})
    bags = np.array([[word in title for word in words] for title in titles], dtype=np.float64)
    pooled = bags @ np.random.default_rng(0).normal(size=(len(words), 32))
    own = bags[:, [word not in SHARED for word in words]]
    assert neighbours_of_the_same_topic(pooled - pooled.mean(axis=0), truth.item_topic) < 0.6
    assert neighbours_of_the_same_topic(own, truth.item_topic) == 1


def neighbours_of_the_same_topic(vectors: np.ndarray, topic: Rows) -> float:
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    similarity = unit @ unit.T
    np.fill_diagonal(similarity, -np.inf)
    return float((topic[similarity.argmax(axis=1)] == topic).mean())


@pytest.mark.parametrize("options", [{"n_topics": 2}, {"n_items": 10}, {"drift": 1.5}, {"events_per_user": 0}])
def test_impossible_worlds(options: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=r"out of range\. Give at least one user"):
        make_synthetic_log(**options)
