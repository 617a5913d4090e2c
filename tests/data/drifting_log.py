"""A planted world whose every moving part is known: people's interests jump, habits of the crowd change, gaps decide.

A user is interested in one of K topics and jumps from one to another at random moments, a Markov chain in continuous
time with lambda jumps per day and jump chances M, whose diagonal is zero:

    P(topic at t + dt) = exp(lambda dt (M - I))                                                            (1)

An event is, with chance q(gap) = sigmoid(odds + slope * log1p(days since the user's last event)), the item that the
crowd goes on to from the last one, s(last item), and otherwise an item of the user's topic, by popularity, but for a
few that are noise: any item at all. s changes at a known moment where asked. Item vectors tell topics apart, and
nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from llmrec.data.interactions import Interactions
from llmrec.data.splits import Split, split_by_time
from llmrec.errors import ConfigError
from llmrec.utils.arrays import Mask, Rows

Matrix = NDArray[np.float64]
Vectors = NDArray[np.float32]

START, DAY, N_DAYS = 1_672_531_200, 86_400, 730  # 1 January 2023; two years
GAPS_DAYS, GAP_SHARES = (0.1, 5.0, 60.0), (0.4, 0.35, 0.25)  # means of exponential gaps, and how common they are
SHORTEST_GAP = 60  # seconds: nobody does two things at once
SPREAD = 1.0  # of an item's log popularity
VECTOR_NOISE, EXTRA_DIMS = 0.08, 4  # text vectors: one direction a topic, a few without meaning, and noise in all


class CrowdEffect(NamedTuple):
    """How often people take the item that the crowd goes on to: q(gap) = sigmoid(odds + slope * log1p(gap days)).

    switch: the share of the two years after which the crowd goes on to other items; 1: never.
    """

    odds: float
    slope: float = 0.0
    switch: float = 1.0

    def chance(self, gap_days: Matrix) -> Matrix:
        """q of gaps, of any shape."""
        return np.asarray(1 / (1 + np.exp(-self.odds - self.slope * np.log1p(gap_days))))


@dataclass(frozen=True, slots=True, eq=False)
class DriftTruth:
    """What the log was made from, for N items and K topics.

    item_topic: (N,). popularity: (N,) chances of an item within its topic. moves_per_day: lambda. jumps: (K, K) M.
    successors: (2, N) s before and after `switch_time`, in seconds. habit: None where nobody follows the crowd.
    """

    item_topic: Rows
    popularity: Matrix
    moves_per_day: float
    jumps: Matrix
    successors: Rows
    switch_time: int
    habit: CrowdEffect | None
    noise: float

    def successor(self, item: Rows, time: Rows) -> Rows:
        """The item that the crowd goes on to from `item` at `time`; of one shape, any."""
        return self.successors[(time >= self.switch_time).astype(np.int64), item]


class DriftingLog(NamedTuple):
    """A log in three parts, unit vectors (N, D) of its items' texts, and the truth behind both."""

    split: Split
    vectors: Vectors
    truth: DriftTruth


def make_drifting_log(
    n_users: int = 1000,
    n_items: int = 100,
    n_topics: int = 5,
    events_per_user: int = 20,
    moves_per_day: float = 1 / 45,
    habit: CrowdEffect | None = None,
    noise: float = 0.05,
    seed: int = 0,
) -> DriftingLog:
    """At most n_users * events_per_user events over two years: users begin at any time, and what comes later is lost.

    moves_per_day: lambda; 0 for interests that stay. noise: share of events on any item at all, of those that do not
    follow the crowd.

    Raises:
        ConfigError: a world too small for its topics, a rate below 0, or a noise outside 0..1.
    """
    if min(n_users, events_per_user) < 1 or n_topics < 3 or n_items < 3 * n_topics:
        raise ConfigError(
            f"n_users={n_users}, events_per_user={events_per_user}, n_topics={n_topics}, n_items={n_items}: "
            "needs a user, an event, three topics, and three items a topic"
        )
    if moves_per_day < 0 or not 0 <= noise <= 1:
        raise ConfigError(f"moves_per_day={moves_per_day} must be at least 0, noise={noise} from 0 to 1")
    rng = np.random.default_rng(seed)
    topic = rng.permutation(np.arange(n_items) % n_topics)
    truth = DriftTruth(
        topic,
        _draw_popularity(topic, n_topics, rng),
        moves_per_day,
        _draw_jumps(n_topics, rng),
        np.stack([_draw_successors(n_items, rng) for _ in range(2)]),
        START + round(N_DAYS * DAY * (1.0 if habit is None else habit.switch)),
        habit,
        noise,
    )
    events = _simulate_users(truth, n_users, events_per_user, rng)
    return DriftingLog(split_by_time(events, n_users, n_items), _draw_vectors(topic, n_topics, rng), truth)


def _draw_jumps(n_topics: int, rng: np.random.Generator) -> Matrix:
    """(K, K) M: mostly on to k + 1, otherwise anywhere else, some places rather than others."""
    jumps = rng.dirichlet(np.ones(n_topics), n_topics) * 0.4
    jumps += 0.6 * np.roll(np.eye(n_topics), 1, axis=1)
    np.fill_diagonal(jumps, 0)
    return np.asarray(jumps / jumps.sum(1, keepdims=True))


def _draw_popularity(topic: Rows, n_topics: int, rng: np.random.Generator) -> Matrix:
    weight = np.exp(rng.normal(0, SPREAD, len(topic)))
    return np.asarray(weight / np.bincount(topic, weight, minlength=n_topics)[topic])


def _draw_successors(n_items: int, rng: np.random.Generator) -> Rows:
    """(N,) a round trip over all items, so that everything is once the one after something else."""
    tour = rng.permutation(n_items)
    successor = np.empty(n_items, dtype=np.int64)
    successor[tour] = np.roll(tour, -1)
    return successor


def _draw_vectors(topic: Rows, n_topics: int, rng: np.random.Generator) -> Vectors:
    """(N, D) unit vectors, D = K + EXTRA_DIMS: nearly one-hot by topic."""
    vectors = np.eye(n_topics, n_topics + EXTRA_DIMS)[topic]
    vectors += rng.normal(0, VECTOR_NOISE, vectors.shape)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)


def _simulate_users(truth: DriftTruth, n_users: int, events_per_user: int, rng: np.random.Generator) -> Interactions:
    """Every user's events within the two years, drawn one step of all users at a time."""
    size = n_users, events_per_user
    gaps = SHORTEST_GAP + DAY * rng.exponential(rng.choice(GAPS_DAYS, size, p=GAP_SHARES))
    gaps[:, 0] = rng.uniform(0, N_DAYS * DAY, n_users)
    time = START + gaps.cumsum(1).astype(np.int64)  # (U, T)
    item = np.empty(size, dtype=np.int64)
    topic = rng.integers(0, len(truth.jumps), n_users)
    for step in range(events_per_user):
        if step:
            topic = _draw_next_topics(truth, topic, gaps[:, step] / DAY, rng)
        item[:, step] = _draw_items(truth, topic, rng.random(n_users) < truth.noise, rng)
        if step and truth.habit is not None:
            follows = rng.random(n_users) < truth.habit.chance(gaps[:, step] / DAY)
            item[:, step] = np.where(follows, truth.successor(item[:, step - 1], time[:, step]), item[:, step])
    kept = time < START + N_DAYS * DAY
    user = np.broadcast_to(np.arange(n_users)[:, None], size)
    return Interactions.sort(user[kept], item[kept], time[kept])


def _draw_next_topics(truth: DriftTruth, topic: Rows, days: Matrix, rng: np.random.Generator) -> Rows:
    """(U,) topics after gaps of `days` (U,): as many jumps as a Poisson draw says, which is (1)."""
    left = rng.poisson(truth.moves_per_day * days)  # (U,)
    while left.any():
        beyond = truth.jumps[topic].cumsum(1) < rng.random((len(topic), 1))  # (U, K)
        topic = np.where(left > 0, np.minimum(beyond.sum(1), len(truth.jumps) - 1), topic)
        left = np.maximum(left - 1, 0)
    return topic


def _draw_items(truth: DriftTruth, topic: Rows, anywhere: Mask, rng: np.random.Generator) -> Rows:
    """(U,) items of the users' topics, by popularity; any item where `anywhere` is true, all alike."""
    possible = (truth.item_topic == topic[:, None]) | anywhere[:, None]  # (U, N)
    score = np.log(truth.popularity) * ~anywhere[:, None] + rng.gumbel(size=possible.shape)
    return np.asarray(np.where(possible, score, -np.inf).argmax(axis=1))
