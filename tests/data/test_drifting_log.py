"""The drifting world holds what its truth says."""

import numpy as np
import pytest
from scipy.linalg import expm

from llmrec.data.interactions import Interactions
from llmrec.errors import ConfigError
from llmrec.utils.arrays import Rows
from tests.data.drifting_log import DAY, N_DAYS, START, CrowdEffect, DriftingLog, make_drifting_log


def steps(world: DriftingLog) -> tuple[Interactions, Rows, Rows]:
    """Events in order of user and time, and rows of those with an event of the same user before; that one's rows."""
    log = world.split.interactions
    by_user = np.lexsort((log.time, log.user))
    later = np.flatnonzero(np.diff(log.user[by_user]) == 0) + 1
    return log, by_user[later], by_user[later - 1]


def test_a_seed_is_a_world() -> None:
    first, again, other = (make_drifting_log(n_users=50, habit=CrowdEffect(0.0), seed=seed) for seed in (3, 3, 4))
    for column in ("user", "item", "time"):
        assert (getattr(first.split.interactions, column) == getattr(again.split.interactions, column)).all()
    assert (first.vectors == again.vectors).all()
    assert (first.truth.successors == again.truth.successors).all()
    assert first.truth.jumps.tolist() != other.truth.jumps.tolist()


def test_shapes_and_chances() -> None:
    world = make_drifting_log(n_users=60, n_items=30, n_topics=4)
    truth, log = world.truth, world.split.interactions
    np.testing.assert_allclose(truth.jumps.sum(1), 1)
    assert not truth.jumps.diagonal().any()
    np.testing.assert_allclose(np.bincount(truth.item_topic, truth.popularity), 1)
    np.testing.assert_allclose(np.linalg.norm(world.vectors, axis=1), 1, rtol=1e-6)
    assert world.vectors.dtype == np.float32
    for successor in truth.successors:
        assert (np.sort(successor) == np.arange(30)).all()
        assert (successor != np.arange(30)).all()
    assert log.time.min() >= START
    assert log.time.max() < START + N_DAYS * DAY
    _, now, before = steps(world)
    assert (log.time[now] > log.time[before]).all()  # no ties


def test_topics_follow_the_chain() -> None:
    """Without noise an event shows its user's topic: after gaps of about a day, a week and a month as by P(dt)."""
    world = make_drifting_log(n_users=3000, moves_per_day=1 / 10, noise=0.0)
    log, now, before = steps(world)
    topic, truth = world.truth.item_topic[log.item], world.truth
    gap = (log.time[now] - log.time[before]) / DAY
    for days in (1.0, 7.0, 30.0):
        near = np.abs(np.log(gap / days)) < 0.2
        counts = np.zeros((5, 5))
        np.add.at(counts, (topic[before[near]], topic[now[near]]), 1)
        planted = expm(truth.moves_per_day * days * (truth.jumps - np.eye(5)))
        np.testing.assert_allclose(counts / counts.sum(1, keepdims=True), planted, atol=0.06)


def test_interest_that_never_moves_stays_in_a_topic() -> None:
    world = make_drifting_log(n_users=200, moves_per_day=0.0, noise=0.0)
    log, now, before = steps(world)
    topic = world.truth.item_topic[log.item]
    assert (topic[now] == topic[before]).all()


def test_the_crowd_is_followed_as_often_as_planted_and_to_other_items_from_the_switch_on() -> None:
    habit = CrowdEffect(odds=1.0, slope=-1.0, switch=0.5)
    world = make_drifting_log(n_users=3000, habit=habit)
    log, now, before = steps(world)
    truth, gap = world.truth, (log.time[now] - log.time[before]) / DAY
    follows = log.item[now] == truth.successor(log.item[before], log.time[now])
    for least, most in ((0.0, 0.2), (2.0, 5.0), (30.0, 700.0)):
        near = (least <= gap) & (gap < most)
        assert follows[near].mean() == pytest.approx(habit.chance(gap[near]).mean(), abs=0.03)
    assert truth.switch_time == START + N_DAYS * DAY // 2
    late = log.time[now] >= truth.switch_time
    old, new = (log.item[now] == successor[log.item[before]] for successor in truth.successors)
    assert old[late].mean() < 0.05 < 0.3 < new[late].mean()
    assert new[~late].mean() < 0.05 < 0.3 < old[~late].mean()


@pytest.mark.parametrize(
    "wrong", [{"n_users": 0}, {"n_topics": 2}, {"n_items": 14}, {"moves_per_day": -0.1}, {"noise": 1.5}], ids=str
)
def test_what_makes_no_world_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=r"needs|must"):
        make_drifting_log(**wrong)
