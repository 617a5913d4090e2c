from __future__ import annotations

import numpy as np
import pytest

from llmrec.evaluation import intervals
from llmrec.evaluation.intervals import bootstrap_difference, bootstrap_mean, bootstrap_means


def clustered(rng: np.random.Generator, n_users: int = 60, spread: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Values that are alike within a user, with unequal numbers of queries; the true mean is 0."""
    user = np.repeat(np.arange(n_users), rng.integers(1, 9, n_users))
    return spread * rng.normal(size=n_users)[user] + rng.normal(size=len(user)), user


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    found = [bootstrap_mean(*clustered(rng), samples=300, seed=n) for n in range(600)]
    covered = np.mean([interval.low <= 0 <= interval.high for interval in found])
    assert 0.90 <= covered <= 0.98


def test_users_are_the_unit_that_is_drawn() -> None:
    """Repeating every query changes nothing, where drawing queries would make the interval narrower."""
    values, user = clustered(np.random.default_rng(1))
    once = bootstrap_mean(values, user)
    assert bootstrap_mean(np.tile(values, 5), np.tile(user, 5)) == pytest.approx(once)
    alone = bootstrap_mean(values, np.arange(len(values)))
    assert once.high - once.low > 1.3 * (alone.high - alone.low)


def test_the_value_is_the_plain_mean_and_lies_inside() -> None:
    values, user = clustered(np.random.default_rng(2))
    interval = bootstrap_mean(values, user)
    assert interval.value == values.mean()
    assert interval.low < interval.value < interval.high


def test_the_same_seed_gives_the_same_draws_whatever_the_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    values, user = clustered(np.random.default_rng(3))
    whole = bootstrap_means(values[:, None], user, samples=50)
    monkeypatch.setattr(intervals, "_CELLS_AT_ONCE", 7 * 60)
    assert np.allclose(whole, bootstrap_means(values[:, None], user, samples=50), atol=1e-12)
    assert not np.allclose(whole, bootstrap_means(values[:, None], user, samples=50, seed=1))


def test_a_paired_difference_sees_what_two_intervals_hide() -> None:
    values, user = clustered(np.random.default_rng(4), spread=5.0)
    noise = np.random.default_rng(5).normal(size=len(values))
    found = bootstrap_difference(values + 0.3 + 0.1 * noise, values, user)
    assert found.low > 0.2
    assert found.p == pytest.approx(2 / 1001)
    assert bootstrap_mean(values, user).high - bootstrap_mean(values, user).low > 1


def test_no_difference_has_a_p_of_one() -> None:
    values, user = clustered(np.random.default_rng(6))
    assert bootstrap_difference(values, values, user) == (0.0, 0.0, 0.0, 1.0)


def test_p_is_small_as_often_as_it_says() -> None:
    rng = np.random.default_rng(7)
    found = [bootstrap_difference(*_twins(rng), samples=199, seed=n).p for n in range(200)]
    assert 0.01 <= np.mean(np.array(found) <= 0.05) <= 0.11


def test_one_user_has_no_interval() -> None:
    interval = bootstrap_mean(np.array([1.0, 0.0]), np.array([3, 3]))
    assert interval.value == 0.5
    assert np.isnan([interval.low, interval.high]).all()
    assert np.isnan(bootstrap_difference(np.ones(2), np.zeros(2), np.array([3, 3])).p)


def _twins(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    first, user = clustered(rng)
    second = rng.normal(size=60)[user] + rng.normal(size=len(user))
    return first, second, user
