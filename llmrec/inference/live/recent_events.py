"""The last events of every user, in order of time: the histories that a live model is asked about."""

from __future__ import annotations

import numpy as np

from llmrec.data.histories import Histories, Queries
from llmrec.drift.terms.transitions import NO_USER
from llmrec.utils.arrays import NO_TIME, Rows


class RecentHistories:
    """item, time: (U, T), oldest first and flush right; events of one time in order of arrival."""

    def __init__(self, n_users: int, most: int) -> None:
        self.item: Rows = np.full((n_users, most), NO_USER, dtype=np.int64)
        self.time: Rows = np.full((n_users, most), NO_TIME, dtype=np.int64)

    def __len__(self) -> int:
        return len(self.item)

    def grow_users(self, n_users: int) -> None:
        """Make room for `n_users` users, those there are among them."""
        more = (0, n_users - len(self)), (0, 0)
        self.item = np.pad(self.item, more, constant_values=NO_USER)
        self.time = np.pad(self.time, more, constant_values=NO_TIME)

    def last_time(self, user: int) -> int:
        """Time of the user's newest event, or NEVER."""
        return int(self.time[user, -1])

    def insert(self, user: int, item: int, time: int) -> None:
        """Put an event in its place, and let the oldest go."""
        items, times = self.item[user], self.time[user]
        position = int(times.searchsorted(time, side="right"))
        if position:  # else it is older than all that are kept
            items[: position - 1], times[: position - 1] = items[1:position].copy(), times[1:position].copy()
            items[position - 1], times[position - 1] = item, time

    def insert_many(self, user: Rows, item: Rows, time: Rows) -> None:
        """Events (E,) in order of arrival, as if one by one."""
        users, position = np.unique(user, return_inverse=True)
        who = np.concatenate([np.repeat(np.arange(len(users)), self.item.shape[1]), position])
        items = np.concatenate([self.item[users].ravel(), item])
        times = np.concatenate([self.time[users].ravel(), time])
        order = np.lexsort((times, who))  # stable
        end = np.cumsum(np.bincount(who, minlength=len(users)))
        newest = order[end[:, None] + np.arange(-self.item.shape[1], 0)]  # (U, T)
        self.item[users], self.time[users] = items[newest], times[newest]

    def get_events(self, user: int) -> tuple[Rows, Rows]:
        """Items and times (T,) of the user's last events."""
        there = self.item[user] != NO_USER
        return self.item[user, there], self.time[user, there]

    def forget(self, user: int) -> None:
        """Leave nothing of a user."""
        self.item[user], self.time[user] = NO_USER, NO_TIME

    def make_queries(self, users: Rows, at: int) -> Queries:
        """What these users (B,) will touch next; their targets are not known."""
        item, time = self.item[users], self.time[users]  # (B, T)
        size, most = item.shape
        offset = np.arange(size + 1) * most
        histories = Histories(item.ravel(), time.ravel(), offset, np.arange(item.size))
        start = offset[1:] - (item != NO_USER).sum(1)
        return Queries(histories, users, np.full(size, at), np.full(size, NO_USER), start, offset[1:])
