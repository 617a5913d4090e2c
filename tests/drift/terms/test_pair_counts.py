"""Pairs are counted, fade, and come out the same however the events arrive."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from llmrec.drift.terms import term_inputs
from llmrec.drift.terms.pair_counts import Transitions, TransitionSettings
from llmrec.utils.units import SECONDS_PER_DAY

N_ITEMS, N_USERS = 8, 3
Event = tuple[int, int, int]  # user, item, day


def by_hand(events: list[Event], now: int, settings: TransitionSettings) -> NDArray[np.float64]:
    """Straight from the definition, pair by pair. events in the order of arrival, which is the order of time."""
    counts = np.zeros((N_ITEMS, N_ITEMS))
    for user in range(N_USERS):
        own = [(item, day) for who, item, day in events if who == user]
        for k, (item, day) in enumerate(own):
            for back in range(1, min(settings.window, k) + 1):
                other, other_day = own[k - back]
                if other == item:
                    continue
                moments = len({d for _, d in own[k - back : k + 1]}) - 1
                steps = max(moments, 1) if settings.ties == "strict" else back
                weight = steps**-0.5 * np.exp(-(day - other_day) / settings.gap_days)
                weight *= 2 ** (-(now - day) / settings.half_life_days)
                tied = day == other_day and settings.ties == "strict"
                counts[other, item] += weight * ((1 + settings.backward) / 2 if tied else 1)
                counts[item, other] += weight * ((1 + settings.backward) / 2 if tied else settings.backward)
    return counts


def observed(events: list[Event], settings: TransitionSettings, cuts: list[int]) -> Transitions:
    transitions = Transitions(N_ITEMS, N_USERS, settings=settings)
    for batch in np.split(np.array(events, dtype=np.int64).reshape(-1, 3), sorted(cuts)):
        transitions.observe(term_inputs.Events(batch[:, 0], batch[:, 1], batch[:, 2] * SECONDS_PER_DAY))
    return transitions


def sums(transitions: Transitions) -> NDArray[np.float64]:
    total = np.zeros((N_ITEMS, N_ITEMS))
    for table in transitions.tables:
        total += table.toarray()
    return total


Events = st.lists(
    st.tuples(st.integers(0, N_USERS - 1), st.integers(0, N_ITEMS - 1), st.integers(0, 400)), max_size=40
).map(lambda events: sorted(events, key=lambda event: event[2]))


@settings(deadline=None)
@given(Events, st.lists(st.integers(0, 40), max_size=4), st.sampled_from(["strict", "file_order"]), st.integers(1, 5))
def test_however_events_arrive_the_sums_are_those_of_the_definition(
    events: list[Event], cuts: list[int], ties: str, window: int
) -> None:
    chosen = TransitionSettings(window=window, ties=ties, half_life_days=30.0)  # type: ignore[arg-type]
    transitions = observed(events, chosen, cuts)
    expected = by_hand(events, 500, chosen)
    faded = transitions.decay_at(500 * SECONDS_PER_DAY)
    np.testing.assert_allclose(sums(transitions) * faded, expected, atol=1e-12)
    np.testing.assert_allclose(transitions.row_sums * faded, expected.sum(1), atol=1e-12)


def test_pairs_by_hand() -> None:
    transitions = observed([(0, 1, 0), (0, 2, 180)], TransitionSettings(half_life_days=float("inf")), [])
    assert sums(transitions)[1, 2] == pytest.approx(np.exp(-1))
    assert sums(transitions)[2, 1] == pytest.approx(0.1 * np.exp(-1))
    assert transitions.decay_at(10**9) == 1.0


def test_events_of_one_moment_have_no_order() -> None:
    one, other = [(0, 1, 5), (0, 2, 5), (0, 3, 9)], [(0, 2, 5), (0, 1, 5), (0, 3, 9)]
    first, second = (sums(observed(events, TransitionSettings(), [])) for events in (one, other))
    np.testing.assert_allclose(first, second)
    assert first[1, 2] == first[2, 1] > 0
    in_order = [sums(observed(e, TransitionSettings(ties="file_order"), [])) for e in (one, other)]
    assert not np.allclose(*in_order)


def test_a_late_event_makes_no_pairs() -> None:
    events = [(0, 1, 0), (0, 2, 10)]
    transitions = observed(events, TransitionSettings(), [])
    before = sums(transitions)
    transitions.observe(term_inputs.Events(np.array([0]), np.array([3]), np.array([5 * SECONDS_PER_DAY])))
    np.testing.assert_array_equal(sums(transitions), before)


def test_sums_survive_centuries() -> None:
    quick = TransitionSettings(half_life_days=1.0)
    transitions = observed([(0, 1, 0), (0, 2, 1), (0, 3, 100_000), (0, 4, 100_001)], quick, [2])
    assert np.isfinite(sums(transitions)).all()
    assert sums(transitions)[3, 4] * transitions.decay_at(100_001 * SECONDS_PER_DAY) == pytest.approx(np.exp(-1 / 180))


@settings(deadline=None)
@given(Events, Events)
def test_restored_transitions_go_on_exactly(before: list[Event], after: list[Event]) -> None:
    first = observed(before, TransitionSettings(), [3, 9])
    second = Transitions(N_ITEMS, 0)
    second.restore(first.export_state())
    for transitions in (first, second):
        rows = np.array(after, dtype=np.int64).reshape(-1, 3).T * np.array([[1], [1], [SECONDS_PER_DAY]])
        transitions.observe(term_inputs.Events(*rows))
    np.testing.assert_array_equal(sums(first), sums(second))
    np.testing.assert_array_equal(first.row_sums, second.row_sums)
    assert first.decay_at(500 * SECONDS_PER_DAY) == second.decay_at(500 * SECONDS_PER_DAY)


def test_a_table_of_other_items_is_refused() -> None:
    state = observed([(0, 1, 0), (0, 7, 1)], TransitionSettings(), []).export_state()
    state["table0.indices"] = state["table0.indices"] + 2
    with pytest.raises(ValueError, match="indices must be < 8"):
        Transitions(N_ITEMS, N_USERS).restore(state)


def test_users_who_come_later_pair_their_events() -> None:
    events: list[Event] = [(0, 1, 0), (1, 2, 1), (1, 3, 2), (0, 4, 3)]
    transitions = Transitions(N_ITEMS, 1)
    transitions.observe(term_inputs.Events(np.array([0]), np.array([1]), np.array([0])))
    transitions.grow_users(N_USERS)
    transitions.observe(term_inputs.Events(*np.array(events[1:]).T * np.array([[1], [1], [SECONDS_PER_DAY]])))
    np.testing.assert_allclose(sums(transitions), sums(observed(events, TransitionSettings(), [1])))
