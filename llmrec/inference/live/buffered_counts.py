"""Counts of all users' events, updated in batches: hundreds cost little more than one.

Reads before a batch is full see the waiting events counted on a copy. Sums of floating-point numbers depend on their
order; since a batch is the same whenever it is read, saved or restored, the counts depend on the events alone, to the
bit.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from llmrec.config.drift import TermName
from llmrec.drift.stream import StreamCounts
from llmrec.drift.terms.term_inputs import Events
from llmrec.utils.arrays import Mask, Rows

MAX_PENDING = 512  # events that wait to be counted; each read in between counts them on a copy
CHUNK_ROWS = 1 << 18  # events that are counted together: each makes a pair with everything in its window


class BufferedCounts:
    """Counts and the events that wait for the next batch.

    Attributes:
        counts: Counts of every full batch.
        terms: Terms whose events are counted.
    """

    def __init__(self, counts: StreamCounts, terms: Iterable[TermName]) -> None:
        """Start with counts and no waiting events.

        Args:
            counts: Counts to update.
            terms: Terms whose events are counted.
        """
        self.counts, self.terms = counts, tuple(terms)
        self._waiting: list[tuple[int, int, int, bool]] = []
        self._ahead: StreamCounts | None = None  # with the waiting events

    def observe(self, user: int, item: int, time: int, *, late: bool) -> None:
        """Add an event.

        Args:
            user: Row of the user.
            item: Row of the item.
            time: Seconds since 1970.
            late: True if the event is older than its user's newest.
        """
        self._waiting.append((user, item, time, late))
        self._ahead = None
        if len(self._waiting) >= MAX_PENDING:
            self.flush()

    def observe_many(self, user: Rows, item: Rows, time: Rows, late: Mask) -> None:
        """Count events after those that wait.

        Args:
            user: Rows of the users, (E,).
            item: Rows of the items, (E,).
            time: Seconds since 1970, (E,).
            late: True for events older than their user's newest, (E,).
        """
        self.flush()
        for start in range(0, len(user), CHUNK_ROWS):
            chunk = slice(start, start + CHUNK_ROWS)
            self.counts.observe(Events(user[chunk], item[chunk], time[chunk], late[chunk]), self.terms)

    def flush(self) -> None:
        """Count the waiting events in place."""
        if self._waiting:
            self.counts.observe(self._collect_events(), self.terms)
            self._waiting.clear()
        self._ahead = None

    def forget(self, user: int, events: Events) -> None:
        """Remove a user from the counts.

        Args:
            user: Row of the user.
            events: All events of the user, in time order.
        """
        self.flush()
        self.counts.subtract(events, self.terms)
        self.counts.forget(user)

    def invalidate(self) -> StreamCounts:
        """Drop the copy before another change of the counts.

        Returns:
            The counts to change.
        """
        self._ahead = None
        return self.counts

    def flushed_counts(self) -> StreamCounts:
        """Return counts with every event counted.

        Returns:
            Counts, for reading only.
        """
        if not self._waiting:
            return self.counts
        if self._ahead is None:
            self._ahead = self.counts.with_events(self._collect_events(), self.terms)
        return self._ahead

    def pending_events(self) -> Rows:
        """Return the waiting events.

        Returns:
            User, item, time and late, (W, 4).
        """
        return np.array(self._waiting, dtype=np.int64).reshape(-1, 4)

    def restore(self, events: Rows, n_users: int, n_items: int) -> None:
        """Continue with saved waiting events; the counts are restored separately.

        Args:
            events: Result of `pending_events`, (W, 4).
            n_users: Number of users.
            n_items: Number of items.

        Raises:
            ValueError: If they are not events of these users and items.
        """
        within = events.shape[1:] == (4,) and events.dtype == np.int64 and events.min(initial=0) >= 0
        if not (within and (events[:, 0] < n_users).all() and (events[:, 1] < n_items).all()):
            raise ValueError("the waiting events are not of these users and items")
        self._waiting = [(user, item, time, bool(late)) for user, item, time, late in events.tolist()]
        self._ahead = None

    def _collect_events(self) -> Events:
        user, item, time, late = np.array(self._waiting, dtype=np.int64).T
        return Events(user, item, time, late == 1)
