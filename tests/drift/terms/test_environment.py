"""Counts fade by their half-lives, the same however events arrive, and never tell the future."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmrec.drift.terms import term_inputs
from llmrec.drift.terms.environment import Environment
from llmrec.errors import DataError
from llmrec.utils.units import SECONDS_PER_DAY

Events = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3000)), min_size=1, max_size=30)
of_a_user = term_inputs.Events.from_user


@settings(deadline=None)
@given(Events, st.randoms())
def test_in_any_order_and_any_batches_the_counts_are_the_sums(events: list[tuple[int, int]], random: object) -> None:
    half_lives = (1.0, 40.0, float("inf"))
    expected = np.zeros((3, 5))
    for row, half_life in enumerate(half_lives):
        for item, day in events:
            expected[row, item] += 2 ** (-(3001 - day) / half_life)
    random.shuffle(events)  # type: ignore[attr-defined]
    at_once, one_by_one = Environment(5, half_lives), Environment(5, half_lives)
    items, times = np.array(events).T * np.array([[1], [SECONDS_PER_DAY]])
    at_once.observe(of_a_user(items, times))
    for place in range(len(items)):
        one_by_one.observe(of_a_user(items[place : place + 1], times[place : place + 1]))
    np.testing.assert_allclose(at_once.counts_at(3001 * SECONDS_PER_DAY), expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(one_by_one.counts_at(3001 * SECONDS_PER_DAY), expected, rtol=1e-9, atol=1e-12)


def test_half_of_it_is_left_after_a_half_life() -> None:
    environment = Environment(2, (7.0, float("inf")))
    environment.observe(of_a_user(np.array([1]), np.array([0])))
    np.testing.assert_allclose(environment.counts_at(7 * SECONDS_PER_DAY), [[0, 0.5], [0, 1]])
    np.testing.assert_allclose(environment.counts_at(14 * SECONDS_PER_DAY), [[0, 0.25], [0, 1]])


def test_the_present_is_not_the_past() -> None:
    environment = Environment(2, (7.0,))
    assert not environment.counts_at(0).any()
    environment.observe(of_a_user(np.array([1]), np.array([100])))
    with pytest.raises(DataError, match="as of 100 were requested, but events up to 100 are counted"):
        environment.counts_at(100)
    assert environment.counts_at(101).any()


@settings(deadline=None)
@given(Events, Events)
def test_a_restored_environment_goes_on_exactly(before: list[tuple[int, int]], after: list[tuple[int, int]]) -> None:
    first, second = Environment(5, (1.0, 40.0)), Environment(5, (1.0, 40.0))
    second.restore(first.export_state())
    np.testing.assert_array_equal(first.counts_at(1), second.counts_at(1))
    first.observe(of_a_user(*np.array(before).T * np.array([[1], [SECONDS_PER_DAY]])))
    second.restore(first.export_state())
    for environment in (first, second):
        environment.observe(of_a_user(*np.array(after).T * np.array([[1], [SECONDS_PER_DAY]])))
    np.testing.assert_array_equal(first.counts_at(3001 * SECONDS_PER_DAY), second.counts_at(3001 * SECONDS_PER_DAY))
