"""Replay of a log in time order: each query is answered with the counts of the last refresh.

At a daily refresh nothing of a query's own day is known, and frozen counts stay as they were when the test began.
Histories are as of the query in every case.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from llmrec.config.drift import DriftConfig, TermName
from llmrec.data.histories import Queries
from llmrec.data.interactions import Interactions, Ties
from llmrec.data.splits import Split
from llmrec.drift.terms import SWITCHES, environment, transitions
from llmrec.drift.terms.environment import Environment
from llmrec.drift.terms.latent_chain import ChainTables
from llmrec.drift.terms.pair_counts import Transitions
from llmrec.drift.terms.term_inputs import Events
from llmrec.drift.terms.term_state import TermCounts
from llmrec.drift.text_neighbors import find_text_neighbors
from llmrec.utils.arrays import Arrays, Rows
from llmrec.utils.units import SECONDS_PER_DAY

REFRESH_DAILY, NO_REFRESH = 1.0, float("inf")


class StreamCounts:
    """Counts of all terms, as of the events observed so far.

    Attributes:
        counts: By term.
        moment: Seconds; every event before it has been counted, and none at or after it. It only moves forward.
    """

    def __init__(self, counts: Mapping[TermName, TermCounts]) -> None:
        self.counts: dict[TermName, Any] = dict(counts)
        self.moment: int | None = None
        self._n_observed = 0

    @property
    def environment(self) -> Environment:
        """Decaying counts of items."""
        counts: Environment = self.counts[environment.NAME]
        return counts

    @property
    def transitions(self) -> Transitions:
        """Decaying counts of item pairs."""
        counts: Transitions = self.counts[transitions.NAME]
        return counts

    def require_moment(self) -> int:
        """Return the moment that the counts are as of.

        Returns:
            Seconds.

        Raises:
            ValueError: If none has been set yet.
        """
        if self.moment is None:
            raise ValueError("the counts are not as of a moment yet; call count_until first")
        return self.moment

    def count_until(self, log: Interactions, moment: int) -> None:
        """Count the events of a log before a moment.

        Args:
            log: Events in time order, always the same ones.
            moment: Seconds, not before the last one.
        """
        end = int(log.time.searchsorted(moment))
        new = slice(self._n_observed, end)
        self.observe(Events(log.user[new], log.item[new], log.time[new]), self.counts)
        self._n_observed, self.moment = end, moment

    def observe(self, events: Events, terms: Iterable[TermName]) -> None:
        """Count events for some terms.

        Args:
            events: Events, as rows of users and items.
            terms: Terms that count them.
        """
        for name in terms:
            self.counts[name].observe(events)

    def with_events(self, events: Events, terms: Iterable[TermName]) -> StreamCounts:
        """Return a copy, for reading only, that has counted more events for some terms.

        Args:
            events: Events to add.
            terms: Terms that count them.

        Returns:
            Copy with these events counted.
        """
        return StreamCounts(self.counts | {name: self.counts[name].with_events(events) for name in terms})

    def subtract(self, events: Events, terms: Iterable[TermName]) -> None:
        """Subtract all counted events of one user, in order of time, from the counts of some terms.

        Args:
            events: All counted events of the user, in order of time.
            terms: Terms that counted them.
        """
        for name in terms:
            self.counts[name].subtract(events)

    def forget(self, user: int) -> None:
        """Remove what the counts keep of a single user."""
        for counts in self.counts.values():
            counts.forget(user)

    def grow_users(self, n_users: int) -> None:
        """Add users up to `n_users`."""
        for counts in self.counts.values():
            counts.grow_users(n_users)

    def grow_items(self, n_items: int) -> None:
        """Add items up to `n_items`."""
        for counts in self.counts.values():
            counts.grow_items(n_items)

    def export_counts(self) -> Arrays:
        """Export the counts without anything that belongs to a single user.

        Returns:
            Arrays by TERM.NAME.
        """
        return _add_prefixes({name: counts.export_counts() for name, counts in self.counts.items()})

    def export_state(self) -> Arrays:
        """Export all arrays without copies.

        Returns:
            Arrays by TERM.NAME.
        """
        return _add_prefixes({name: counts.export_state() for name, counts in self.counts.items()})

    def restore_counts(self, arrays: Mapping[str, NDArray[Any]], n_items: int) -> None:
        """Continue from `export_counts` of `n_items` items or fewer; nothing is known of users.

        Args:
            arrays: Arrays of `export_counts`.
            n_items: Number of items to have.

        Raises:
            LookupError: If an array is missing.
            ValueError: If the arrays have more items or other half-lives.
        """
        for name, counts in self.counts.items():
            counts.restore_counts(take_prefix(arrays, name), n_items)

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Continue from `export_state`, to the bit.

        Args:
            arrays: Arrays of `export_state`.

        Raises:
            LookupError: If an array is missing.
            ValueError: If the arrays do not fit.
        """
        for name, counts in self.counts.items():
            counts.restore(take_prefix(arrays, name))


def take_prefix(arrays: Mapping[str, NDArray[Any]], name: str) -> Arrays:
    """Return the arrays of a term by their own names.

    Args:
        arrays: Arrays by TERM.NAME.
        name: Name of the term.

    Returns:
        Arrays by their own names.
    """
    prefix = f"{name}."
    return {key.removeprefix(prefix): array for key, array in arrays.items() if key.startswith(prefix)}


def _add_prefixes(parts: Mapping[TermName, Arrays]) -> Arrays:
    return {f"{name}.{key}": array for name, arrays in parts.items() for key, array in arrays.items()}


@dataclass(frozen=True)
class ReplayStream:
    """Log and tables that a head is replayed on."""

    config: DriftConfig
    """Settings of the head."""
    log: Interactions
    """All events in time order."""
    ties: Ties
    """Order of events of one moment."""
    n_users: int
    """Number of users, as rows."""
    start: int
    """Seconds; frozen counts hold the events before it."""
    text: sparse.csr_array
    """Transition probabilities by text, (N, N)."""
    transition_half_life_days: float
    """One of the configured half-lives."""
    chain: ChainTables | None = None
    """Tables of the chain; None without that term."""
    trained_until: int | None = None
    """End of the data that the model below was trained on, in seconds; None where no time separates the two."""

    @classmethod
    def from_split(cls, config: DriftConfig, split: Split, ties: Ties, vectors: Tensor | None) -> ReplayStream:
        """Return the stream of a split.

        Args:
            config: Settings of the head.
            split: Log and the moment the test starts.
            ties: Order of events of one moment.
            vectors: (N, D) of `center_and_normalize`; with None, items without transitions lead nowhere.

        Returns:
            Stream over the visible log of the split.
        """
        shape = split.n_items, split.n_items
        near = sparse.csr_array(shape) if vectors is None else find_text_neighbors(vectors, config.n_text_neighbors)
        half_life = config.transition_half_lives_days[0]
        return cls(config, split.visible, ties, split.n_users, split.test_start, near, half_life)

    @property
    def n_items(self) -> int:
        """Number of items, as rows."""
        return int(self.text.shape[0])

    def new_counts(self) -> StreamCounts:
        """Return empty counts of the terms that count events.

        Returns:
            Counts, one for each term that counts.
        """
        made = {
            name: term.new_counts(self)
            for name, term in SWITCHES.items()
            if name in self.config.terms or not term.optional
        }
        return StreamCounts({name: counts for name, counts in made.items() if counts is not None})

    def with_texts(self, vectors: Tensor) -> ReplayStream:
        """Return a stream whose tables know more items by their unit text vectors.

        Args:
            vectors: Unit text vectors of the new items, (R, D).

        Returns:
            Stream with the larger tables; this one without a chain.
        """
        return self if self.chain is None else replace(self, chain=self.chain.with_texts(vectors))

    def refresh_times(self, time: Rows, refresh_days: float) -> Rows:
        """Return the last refresh at or before each time, counted from the last midnight before `start`.

        Args:
            time: Seconds, (Q,).
            refresh_days: Days between refreshes.

        Returns:
            Seconds, (Q,).
        """
        if refresh_days == NO_REFRESH:
            return np.full(len(time), self.start)
        first, step = self.start // SECONDS_PER_DAY * SECONDS_PER_DAY, round(refresh_days * SECONDS_PER_DAY)
        return first + (time - first) // step * step

    def replay(
        self, counts: StreamCounts, queries: Queries, refresh_days: float
    ) -> Iterator[tuple[Rows, StreamCounts]]:
        """Iterate over the refresh moments of queries in time order.

        Args:
            counts: Updated at each refresh.
            queries: Q queries.
            refresh_days: Days between refreshes.

        Yields:
            Rows of the queries that share a refresh, and the counts as of it.
        """
        moments = self.refresh_times(queries.time, refresh_days)
        for moment in np.unique(moments):
            counts.count_until(self.log, int(moment))
            yield np.flatnonzero(moments == moment), counts
