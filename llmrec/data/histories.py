"""As-of histories: what was known of a user strictly before a query time.

Events are kept once, by user and in time order; a history is a range of them, so that neither training
windows nor a million queries copy anything.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from llmrec.data.interactions import Interactions, Ties
from llmrec.data.splits import Split
from llmrec.utils.arrays import Mask, Rows, concat_ranges, pad_ranges


@dataclass(frozen=True, slots=True)
class Histories:
    """All events by user: those of user u are `item[offset[u]:offset[u + 1]]`, oldest first.

    item, time: (E,); offset: (n_users + 1,); event: (E,) row of each in the log it was built from.
    """

    item: Rows
    time: Rows
    offset: Rows
    event: Rows

    @classmethod
    def from_interactions(cls, interactions: Interactions, n_users: int) -> Histories:
        event = np.argsort(interactions.user, kind="stable")
        counts = np.bincount(interactions.user, minlength=n_users)
        offset = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        return cls(interactions.item[event], interactions.time[event], offset, event)

    @property
    def user(self) -> Rows:
        """(E,) user row of each event."""
        return np.repeat(np.arange(len(self.offset) - 1), np.diff(self.offset))

    def find_tie_starts(self) -> Rows:
        """(E,) position of the first event of the same user at the same time as each event."""
        tied = np.zeros(len(self.time), dtype=np.bool_)
        tied[1:] = self.time[1:] == self.time[:-1]
        tied[self.offset[:-1][np.diff(self.offset) > 0]] = False  # a user's first event
        position = np.arange(len(self.time))
        position[tied] = 0
        return np.maximum.accumulate(position, out=position)

    def find_history_ends(self, ties: Ties) -> Rows:
        """(E,) where the history of each event ends (exclusive).

        `strict`: events at the same time are in none of each other's histories.
        `file_order`: the papers' habit, events before it in the log's order.
        """
        return self.find_tie_starts() if ties == "strict" else np.arange(len(self.time))


@dataclass(frozen=True, slots=True)
class Queries:
    """Q questions "what will this user touch next?", each with the range of its history in `histories`.

    user, time, target, start, end: (Q,). The history of query q is `histories.item[start[q]:end[q]]`.
    """

    histories: Histories
    user: Rows
    time: Rows
    target: Rows
    start: Rows
    end: Rows

    def __len__(self) -> int:
        return len(self.user)

    def take(self, which: Rows | Mask | slice) -> Queries:
        columns = (self.user, self.time, self.target, self.start, self.end)
        return Queries(self.histories, *(column[which] for column in columns))

    def last_positions(self, n: int) -> tuple[Rows, Mask]:
        """Positions (Q, T) of each history's last T <= n events, oldest first, padded right; and their mask."""
        lengths = np.minimum(self.end - self.start, n)
        return pad_ranges(self.end - lengths, self.end)

    def list_seen_pairs(self) -> tuple[Rows, Rows]:
        """(query row, item row) pairs of everything in the histories: what a ranking masks."""
        lengths = self.end - self.start
        query = np.repeat(np.arange(len(self)), lengths)
        return query, self.histories.item[np.repeat(self.start, lengths) + concat_ranges(lengths)]


def make_queries(split: Split, part: int, ties: Ties = "strict") -> Queries:
    """One query for each event of `part`, in time order; histories hold events of every part before it."""
    histories = Histories.from_interactions(split.interactions, split.n_users)
    at = np.flatnonzero((split.part == part)[histories.event])
    event = histories.event[at]
    in_time = np.argsort(event)
    at, chosen = at[in_time], split.interactions.take(event[in_time])
    start, end = histories.offset[chosen.user], histories.find_history_ends(ties)[at]
    return Queries(histories, chosen.user, chosen.time, chosen.item, start, end)
