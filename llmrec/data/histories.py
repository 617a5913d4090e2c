"""Histories: the events of a user strictly before a query time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from llmrec.data.interactions import Interactions, Ties
from llmrec.data.splits import Split
from llmrec.utils.arrays import Mask, Rows, concat_ranges, pad_ranges


# Events are stored once, by user and in time order, and a history is a range of them: neither training windows nor a
# million queries copy events.
@dataclass(frozen=True, slots=True)
class Histories:
    """All events by user: those of user u are `item[offset[u]:offset[u + 1]]`, oldest first."""

    item: Rows
    """Catalog row of each event, (E,)."""
    time: Rows
    """Time of each event in seconds, (E,)."""
    offset: Rows
    """Position of each user's first event, (n_users + 1,)."""
    event: Rows
    """Row of each event in the log it was built from, (E,)."""

    @classmethod
    def from_interactions(cls, interactions: Interactions, n_users: int) -> Histories:
        """Sort events by user.

        Args:
            interactions: Events in time order.
            n_users: Number of users.

        Returns:
            The events by user.
        """
        event = np.argsort(interactions.user, kind="stable")
        counts = np.bincount(interactions.user, minlength=n_users)
        offset = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        return cls(interactions.item[event], interactions.time[event], offset, event)

    def take(self, mask: Mask) -> Histories:
        """Select some of the events.

        Args:
            mask: True for the events to keep, (E,).

        Returns:
            Histories of those events.
        """
        before = np.concatenate([[0], np.cumsum(mask)]).astype(np.int64)
        return Histories(self.item[mask], self.time[mask], before[self.offset], self.event[mask])

    @property
    def user(self) -> Rows:
        """User row of each event, (E,)."""
        return np.repeat(np.arange(len(self.offset) - 1), np.diff(self.offset))

    def find_tie_starts(self) -> Rows:
        """Return the position of the first event with the same user and time as each event, (E,)."""
        tied = np.zeros(len(self.time), dtype=np.bool_)
        tied[1:] = self.time[1:] == self.time[:-1]
        tied[self.offset[:-1][np.diff(self.offset) > 0]] = False  # a user's first event
        position = np.arange(len(self.time))
        position[tied] = 0
        return np.maximum.accumulate(position, out=position)

    def find_history_ends(self, ties: Ties) -> Rows:
        """Return the exclusive end of the history of each event.

        Args:
            ties: `strict` leaves events of the same time out of each other's histories; `file_order`, common in papers,
                includes the events before it in the order of the log.

        Returns:
            Positions, (E,).
        """
        return self.find_tie_starts() if ties == "strict" else np.arange(len(self.time))


@dataclass(frozen=True, slots=True)
class Queries:
    """Q queries for the next item of a user; the history of query q is `histories.item[start[q]:end[q]]`."""

    histories: Histories
    """Events of all users."""
    user: Rows
    """User row of each query, (Q,)."""
    time: Rows
    """Query time in seconds, (Q,)."""
    target: Rows
    """Catalog row of the item that followed, (Q,)."""
    start: Rows
    """Start of the history in `histories`, (Q,)."""
    end: Rows
    """End of the history in `histories`, exclusive, (Q,)."""

    def __len__(self) -> int:
        return len(self.user)

    def take(self, which: Rows | Mask | slice) -> Queries:
        """Select some of the queries.

        Args:
            which: Rows, a mask (Q,) or a slice.

        Returns:
            The selected queries.
        """
        columns = (self.user, self.time, self.target, self.start, self.end)
        return Queries(self.histories, *(column[which] for column in columns))

    def last_positions(self, n: int) -> tuple[Rows, Mask]:
        """Return the positions of the last events of each history.

        Args:
            n: Maximum number of events of a history.

        Returns:
            Positions in `histories`, (Q, T) with T <= n, oldest first and padded on the right, and their mask, (Q, T).
        """
        lengths = np.minimum(self.end - self.start, n)
        return pad_ranges(self.end - lengths, self.end)

    def list_seen_pairs(self) -> tuple[Rows, Rows]:
        """List the (query row, item row) pairs of all events in the histories, which a ranking masks."""
        lengths = self.end - self.start
        query = np.repeat(np.arange(len(self)), lengths)
        return query, self.histories.item[np.repeat(self.start, lengths) + concat_ranges(lengths)]


def make_queries(split: Split, part: int, *, ties: Ties = "strict") -> Queries:
    """Make one query for each event of a part, in time order.

    Args:
        split: The split log.
        part: TRAIN, VALID or TEST.
        ties: Rule for events of the same time.

    Returns:
        The queries; their histories are the visible events before the query time, of all parts but in item_cold.
    """
    histories = Histories.from_interactions(split.interactions, split.n_users)
    at = np.flatnonzero((split.part == part)[histories.event])
    event = histories.event[at]
    in_time = np.argsort(event)
    at, chosen = at[in_time], split.interactions.take(event[in_time])
    start, end = histories.offset[chosen.user], histories.find_history_ends(ties)[at]
    if not (shown := split.is_visible[histories.event]).all():
        before = np.concatenate([[0], np.cumsum(shown)]).astype(np.int64)  # visible events before each position
        histories, start, end = histories.take(shown), before[start], before[end]
    return Queries(histories, chosen.user, chosen.time, chosen.item, start, end)
