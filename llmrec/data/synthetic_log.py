"""Synthetic log of users whose interests move through topics by a known Markov chain."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from llmrec.data.filters import renumber
from llmrec.data.interactions import Interactions
from llmrec.data.items.catalog import ItemCatalog
from llmrec.data.log import Log, make_log
from llmrec.errors import ConfigError
from llmrec.utils.arrays import Rows

Matrix = NDArray[np.float64]

# A title has a few made-up words of its topic among more words that all topics share, so that vectors averaged over its
# words are mostly about the shared ones. Only the log shows which words matter: an encoder that is trained end to end
# can learn them, also for items that appear after training.
START, YEAR = 1_672_531_200, 365 * 86_400  # seconds; from 1 January 2023
LATE_SHARE, LATE_FROM, LATE_UNTIL = 0.15, 0.8, 0.95  # share of items released late, and when in the year
WORDS_PER_TOPIC, TOPIC_WORDS, SHARED_WORDS = 8, 2, 8  # in a topic's vocabulary; in a title
SYLLABLES = ("ba", "do", "fi", "gu", "ke", "lo", "mi", "nu", "pa", "ro", "se", "tu", "va", "zo")
SHARED = tuple("new old big red hot the for my set kit best fun top pro all mini".split())


@dataclass(frozen=True, slots=True, eq=False)
class SyntheticTruth:
    """Parameters that generated a synthetic log of N items and K topics."""

    item_topic: Rows
    """Topic of each item, (N,)."""
    transitions: Matrix
    """Probability of the next topic at the start of the year, (K, K), row k for topic k."""
    transitions_end: Matrix
    """Probability of the next topic at the end of the year, (K, K); equal to `transitions` without drift."""

    def transitions_at(self, time: int) -> Matrix:
        """Return the transition matrix at a time, interpolated linearly over the year.

        Args:
            time: Seconds since the epoch.

        Returns:
            Transition probabilities, (K, K).
        """
        return _blend(self.transitions, self.transitions_end, (time - START) / YEAR)


def make_synthetic_log(
    n_users: int = 200,
    n_items: int = 120,
    *,
    n_topics: int = 6,
    events_per_user: int = 12,
    seed: int = 0,
    drift: float = 0.0,
) -> tuple[Log, SyntheticTruth]:
    """Generate a log over a year, and the parameters behind it.

    A user mostly moves from topic k to k + 1, and repeats an item only if the topic has no other. Items have a title
    and a
    release time.

    Args:
        n_users: Number of users.
        n_items: Number of items.
        n_topics: Number of topics, K.
        events_per_user: Number of events of each user.
        seed: Seed of all draws.
        drift: Share of the moves to k + 1 that have become moves to k + 2 by the end of the year, 0 to 1.

    Returns:
        The log of n_users * events_per_user events, and its parameters.

    Raises:
        ConfigError: If there are too few items for the topics, or drift is outside 0 to 1.
    """
    if min(n_users, events_per_user) < 1 or n_topics < 3 or n_items < 3 * n_topics or not 0 <= drift <= 1:
        raise ConfigError(
            f"n_users={n_users}, events_per_user={events_per_user}, n_topics={n_topics}, n_items={n_items}, "
            f"drift={drift}: out of range. Give at least one user, one event, three topics, three items a topic, and a "
            "drift from 0 to 1."
        )
    rng = np.random.default_rng(seed)
    topic = rng.permutation(np.arange(n_items) % n_topics)
    forward, skipping = _cyclic_transitions(n_topics, 1), _cyclic_transitions(n_topics, 2)
    truth = SyntheticTruth(topic, forward, _blend(forward, skipping, drift))
    release = _draw_release_times(topic, rng)
    events = _simulate_users(truth, release, n_users, events_per_user, rng=rng)
    interactions, old = renumber(events)
    users = pa.array([f"u{user}" for user in old], pa.large_string())
    log = make_log("planted_world", interactions, _make_catalog(topic, release, rng), users, resolution="second")
    return log, truth


def _cyclic_transitions(n_topics: int, step: int) -> Matrix:
    """Return transition probabilities (K, K): 0.7 to go `step` topics on, 0.15 to stay, the rest uniform."""
    stay = np.eye(n_topics)
    return np.asarray(0.7 * np.roll(stay, step, axis=1) + 0.15 * stay + 0.15 / n_topics)


def _blend(start: Matrix, end: Matrix, share: float) -> Matrix:
    return (1 - share) * start + share * end


def _draw_release_times(topic: Rows, rng: np.random.Generator) -> Rows:
    """Draw release times in seconds (N,); the first two items of a topic are there from the start."""
    n_items = len(topic)
    share = np.where(rng.random(n_items) < LATE_SHARE, rng.uniform(LATE_FROM, LATE_UNTIL, n_items), 0)
    rank = np.array([np.sum(topic[:item] == topic[item]) for item in range(n_items)])
    return np.where(rank < 2, START, START + (share * YEAR).astype(np.int64))


def _simulate_users(
    truth: SyntheticTruth, release: Rows, n_users: int, events_per_user: int, *, rng: np.random.Generator
) -> Interactions:
    """Draw the events of all users, one step of all users at a time."""
    topic, everyone = truth.item_topic, np.arange(n_users)
    moments = np.sort(rng.integers(START, START + YEAR - events_per_user, (n_users, events_per_user)))
    moments += np.arange(events_per_user)  # the events of a user have distinct times
    appeal = rng.normal(0, 0.5, len(topic))  # (N,)
    seen = np.zeros((n_users, len(topic)), dtype=np.bool_)
    items = np.empty((n_users, events_per_user), dtype=np.int64)
    current = rng.integers(0, truth.transitions.shape[0], n_users)
    for step in range(events_per_user):
        if step:
            current = _draw_next_topics(truth, current, moments[:, step], rng)
        possible = (topic == current[:, None]) & (release <= moments[:, step, None])  # (B, N)
        score = appeal + rng.gumbel(size=possible.shape) - 1e3 * seen
        items[:, step] = np.where(possible, score, -np.inf).argmax(axis=1)
        seen[everyone, items[:, step]] = True
    return Interactions.sort(np.repeat(everyone, events_per_user), items.ravel(), moments.ravel())


def _draw_next_topics(truth: SyntheticTruth, current: Rows, time: Rows, rng: np.random.Generator) -> Rows:
    """Draw the next topic of each user (B,) at the user's own time."""
    share = ((time - START) / YEAR)[:, None]  # (B, 1)
    chances = (1 - share) * truth.transitions[current] + share * truth.transitions_end[current]  # (B, K)
    return np.asarray((chances.cumsum(axis=1) < rng.random((len(current), 1))).sum(axis=1))


def _make_catalog(topic: Rows, release: Rows, rng: np.random.Generator) -> ItemCatalog:
    n_words = (int(topic.max()) + 1) * WORDS_PER_TOPIC
    words = _make_words(n_words, rng).reshape(-1, WORDS_PER_TOPIC)  # (K, words)
    titles = []
    for k in topic:
        own, shared = rng.choice(words[k], TOPIC_WORDS, replace=False), rng.choice(SHARED, SHARED_WORDS, replace=False)
        titles.append(" ".join(rng.permutation(np.concatenate([own, shared]))))
    fields = pa.table(
        {
            "item_id": pa.array([f"i{item}" for item in range(len(topic))], pa.large_string()),
            "title": pa.array(titles, pa.large_string()),
            "released": pa.array(release).cast(pa.timestamp("s", "UTC")),
        }
    )
    return ItemCatalog(fields, release_column="released")


def _make_words(n_words: int, rng: np.random.Generator) -> NDArray[np.str_]:
    """Make distinct words of three syllables from one list for all topics, so spelling reveals nothing."""
    base = len(SYLLABLES)
    codes = rng.choice(base**3, n_words, replace=False)
    return np.array(["".join(SYLLABLES[code // base**place % base] for place in range(3)) for code in codes])
