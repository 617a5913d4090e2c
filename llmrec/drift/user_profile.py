"""Profile of one user: interest over time, a forecast, and recent transitions of other people."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from llmrec.config.drift import MAX_HISTORY
from llmrec.data.histories import Histories, Queries
from llmrec.data.interactions import Interactions
from llmrec.data.times.timestamps import format_iso
from llmrec.drift.head import DriftHead
from llmrec.drift.interest_metrics import Numbers
from llmrec.drift.mixture import build_recent_events
from llmrec.drift.profile import MixtureShares, label_states, mixture_shares_by_gap, order_states
from llmrec.drift.stream import ReplayStream
from llmrec.drift.terms import transitions
from llmrec.utils.arrays import Rows
from llmrec.utils.units import SECONDS_PER_DAY

N_MOMENTS = 100  # evenly spread over a history, in addition to those of its events
AHEAD_DAYS = 30
RECENT_DAYS = 90, 365  # min and max; in between the half-life of transitions
N_MOVES, MOST_FROM_ONE, CANDIDATES = 8, 3, 60


@dataclass(frozen=True)
class ObservedTransition:
    """Recent transition of other people from one item to another within a few events."""

    source: str
    """Title of the item before."""
    target: str
    """Title of the item after."""
    n_people: int
    """Number of people with this transition."""
    recent_days: int
    """Days before the query time that are counted."""


@dataclass(frozen=True)
class InterestOverTime:
    """Probabilities of K states over time."""

    titles: list[list[str]]
    """Typical items of each state."""
    moments: list[int]
    """Seconds of the moments, (G,)."""
    course: list[list[float]]
    """Probabilities at the moments, (G, K)."""
    ahead: list[float]
    """Probabilities in 30 days, (K,)."""

    @property
    def now(self) -> list[float]:
        """Probabilities at the last moment, (K,)."""
        return self.course[-1]


@dataclass(frozen=True)
class UserDriftProfile:
    """Content of `llmrec drift`."""

    user: str
    """Id of the user."""
    at: str
    """Query time."""
    event_times: list[int]
    """Seconds of the user's events."""
    half_life_days: float
    """Half-life of the weight of an own event."""
    chain_half_lives_days: list[float] | None
    """Half-lives of the slow and the fast belief; None without a chain."""
    interest: InterestOverTime | None
    """Interest over time; None without a chain."""
    shares: MixtureShares
    """Shares of the mixture by gap."""
    moves: list[ObservedTransition]
    """Recent transitions of other people from the user's last items."""


def build_user_drift_profile(
    head: DriftHead, stream: ReplayStream, user: tuple[int, str], at: int, *, label: Callable[[int], str]
) -> UserDriftProfile:
    """Describe a user as of a moment.

    Args:
        head: Fitted weights.
        stream: The log and the tables.
        user: Row and id of a user with at least one event before `at`.
        at: Seconds.
        label: Returns the words for the item of a row.

    Returns:
        Profile of the user.
    """
    past = stream.log.take(stream.log.time < at)
    events = past.take(past.user == user[0])
    learned = head.describe()
    seen = events.time[-MAX_HISTORY:]
    return UserDriftProfile(
        user[1],
        format_iso(at),
        events.time.tolist(),
        learned["interest_half_life_days"],
        learned.get("chain_half_lives_days"),
        None if stream.chain is None else _build_interest(stream, events, at, label),
        mixture_shares_by_gap(head, len(seen), float(seen[-1] - seen[0]) / SECONDS_PER_DAY),
        transitions_from(head, stream, past, events, at=at, label=label) if transitions.NAME in head.terms else [],
    )


def recent_window_days(half_life_days: float) -> int:
    """Return the days over which transitions are counted for display, by the half-life of pairs.

    Args:
        half_life_days: Half-life of pairs in days.

    Returns:
        Days.
    """
    return int(min(max(half_life_days, RECENT_DAYS[0]), RECENT_DAYS[1]))


def queries_at(events: Interactions, moments: Rows) -> Queries:
    """Make one query of a user for each moment, with the events strictly before it as its history.

    Args:
        events: Events of the user in time order.
        moments: Seconds, (G,).

    Returns:
        Queries, one for each moment.
    """
    zeros = np.zeros(len(moments), dtype=np.int64)
    past = Histories(events.item, events.time, np.array([0, len(events)]), np.arange(len(events)))
    return Queries(past, zeros, moments, zeros, zeros, events.time.searchsorted(moments))


def transitions_from(
    head: DriftHead,
    stream: ReplayStream,
    past: Interactions,
    events: Interactions,
    *,
    at: int,
    label: Callable[[int], str],
) -> list[ObservedTransition]:
    """List items that other people chose after the user's last items and that are new to the user.

    Args:
        head: Fitted weights.
        stream: The log and the tables.
        past: All events before `at`.
        events: Events of the user before `at`.
        at: Seconds.
        label: Returns the words for the item of a row.

    Returns:
        Transitions of most people among the strongest by w_uj C[j, i], a few from each item.
    """
    strength, last = _transition_weights(head, stream, events, at)
    days = recent_window_days(stream.transition_half_life_days)
    found: list[ObservedTransition] = []
    for position in np.argsort(-strength, axis=None, kind="stable")[:CANDIDATES]:
        step, target = divmod(int(position), stream.n_items)
        n_people = users_with_transition(
            past, int(last[step]), target, at - days * SECONDS_PER_DAY, window=stream.config.window
        )
        if strength[step, target] > 0 and n_people:
            found.append(ObservedTransition(label(int(last[step])), label(target), n_people, days))
    found = sorted(
        dict.fromkeys(found), key=lambda move: -move.n_people
    )  # stable: equal ones stay in order of strength
    sources = [move.source for move in found]
    return [move for row, move in enumerate(found) if sources[:row].count(move.source) < MOST_FROM_ONE][:N_MOVES]


def _transition_weights(head: DriftHead, stream: ReplayStream, events: Interactions, at: int) -> tuple[Numbers, Rows]:
    """Return w_uj C[j, i] of the user's last T items and every unseen item, (T, N), and these items (T,)."""
    counts = stream.new_counts()
    counts.count_until(stream.log, at)
    recent = build_recent_events(queries_at(events, np.array([at])))
    weight = head.interest(recent.age_days, recent.steps_back, recent.mask)[0].double().numpy()
    last = recent.item[0].numpy()
    strength = np.zeros((len(last), stream.n_items))
    for table in counts.transitions.tables:
        strength += weight[:, None] * table[last].toarray()
    strength[:, events.item] = 0
    return strength * counts.transitions.decay_at(at), last


def users_with_transition(past: Interactions, source: int, target: int, since: int, *, window: int) -> int:
    """Count users who chose one item shortly after another.

    Args:
        past: Events of all users in time order.
        source: Item row.
        target: Item row.
        since: Seconds; earlier events of `target` do not count.
        window: Events before `target`, or at its moment, that `source` is looked for in.

    Returns:
        Number of users.
    """
    involved = np.unique(past.user[(past.item == target) & (past.time >= since)])
    events = past.take(np.isin(past.user, involved))
    order = np.argsort(events.user, kind="stable")
    user, item, time = events.user[order], events.item[order], events.time[order]
    here = np.flatnonzero((item == target) & (time >= since))
    there = np.flatnonzero(item == source)
    if not len(here) or not len(there):
        return 0
    steps = here[:, None] - there  # (A, B)
    near = (user[here][:, None] == user[there]) & (np.abs(steps) <= window)
    went = near & ((steps > 0) | (time[here][:, None] == time[there]))
    return len(np.unique(user[here[went.any(1)]]))


@torch.no_grad()
def _build_interest(
    stream: ReplayStream, events: Interactions, at: int, label: Callable[[int], str]
) -> InterestOverTime:
    tables = stream.chain
    if tables is None:
        raise ValueError("the stream has no chain")
    order = order_states(tables)
    spread = np.linspace(events.time[0] + 1, at, N_MOMENTS).astype(np.int64)
    moments = np.unique(np.concatenate([spread, events.time[1:], events.time + 1, [at]]))
    moments = moments[(moments > events.time[0]) & (moments <= at)]
    times = np.append(moments, at + AHEAD_DAYS * SECONDS_PER_DAY)
    course = (
        tables.interest_from_history(build_recent_events(queries_at(events, times)))[:, order].double().numpy().round(4)
    )
    titles = label_states(tables, stream.log.item, label)
    return InterestOverTime(
        [titles[state] for state in order], moments.tolist(), course[:-1].tolist(), course[-1].tolist()
    )
