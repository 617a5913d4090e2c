"""The last events of each user in time order: the histories of live users."""

from __future__ import annotations

import numpy as np

from llmrec.data.histories import Histories, Queries
from llmrec.data.times.timestamps import END_OF_TIME
from llmrec.drift.terms.pair_counts import NO_USER
from llmrec.utils.arrays import NO_TIME, Rows


class RecentHistories:
    """The last T events of U users.

    Attributes:
        item: (U, T) rows, oldest first and padded left; events of one time in order of arrival.
        time: (U, T) seconds.
    """

    def __init__(self, n_users: int, most: int) -> None:
        """Start without events.

        Args:
            n_users: Number of users, U.
            most: Events to keep of each user, T.
        """
        self.item: Rows = np.full((n_users, most), NO_USER, dtype=np.int64)
        self.time: Rows = np.full((n_users, most), NO_TIME, dtype=np.int64)

    def __len__(self) -> int:
        return len(self.item)

    def grow_users(self, n_users: int) -> None:
        """Add users without events.

        Args:
            n_users: Number of users afterward.
        """
        more = (0, n_users - len(self)), (0, 0)
        self.item = np.pad(self.item, more, constant_values=NO_USER)
        self.time = np.pad(self.time, more, constant_values=NO_TIME)

    def last_time(self, user: int) -> int:
        """Return the time of a user's newest event.

        Args:
            user: Row of the user.

        Returns:
            Seconds since 1970, or NO_TIME without events.
        """
        return int(self.time[user, -1])

    def find_newest_before(self, user: Rows, time: Rows) -> Rows:
        """Return the time of the same user's newest event that arrived before each of several events.

        Args:
            user: Rows of the users, (E,), in order of arrival.
            time: Seconds since 1970, (E,).

        Returns:
            Seconds since 1970, (E,), NO_TIME without such an event.
        """
        order = np.argsort(user, kind="stable")
        users, first, count = np.unique(user[order], return_index=True, return_counts=True)
        shift = np.repeat(np.arange(len(users)), count) * END_OF_TIME  # so that no user's times reach the next one's
        so_far = np.maximum.accumulate(time[order] + shift) - shift
        before = np.concatenate([[NO_TIME], so_far[:-1]])
        before[first] = NO_TIME
        newest = np.empty_like(before)
        newest[order] = np.maximum(before, np.repeat(self.time[users, -1], count))
        return newest

    def insert(self, user: int, item: int, time: int) -> None:
        """Insert an event by time, and drop the oldest.

        Args:
            user: Row of the user.
            item: Row of the item.
            time: Seconds since 1970.
        """
        items, times = self.item[user], self.time[user]
        position = int(times.searchsorted(time, side="right"))
        if position:  # otherwise it is older than all kept ones
            items[: position - 1], times[: position - 1] = items[1:position].copy(), times[1:position].copy()
            items[position - 1], times[position - 1] = item, time

    def insert_many(self, user: Rows, item: Rows, time: Rows) -> None:
        """Insert events in order of arrival, as if one by one.

        Args:
            user: Rows of the users, (E,).
            item: Rows of the items, (E,).
            time: Seconds since 1970, (E,).
        """
        users, position = np.unique(user, return_inverse=True)
        who = np.concatenate([np.repeat(np.arange(len(users)), self.item.shape[1]), position])
        items = np.concatenate([self.item[users].ravel(), item])
        times = np.concatenate([self.time[users].ravel(), time])
        order = np.lexsort((times, who))  # stable
        end = np.cumsum(np.bincount(who, minlength=len(users)))
        newest = order[end[:, None] + np.arange(-self.item.shape[1], 0)]  # (U, T)
        self.item[users], self.time[users] = items[newest], times[newest]

    def get_events(self, user: int) -> tuple[Rows, Rows]:
        """Return a user's last events, oldest first.

        Args:
            user: Row of the user.

        Returns:
            Items and times, at most T each.
        """
        there = self.item[user] != NO_USER
        return self.item[user, there], self.time[user, there]

    def forget(self, user: int) -> None:
        """Remove all events of a user.

        Args:
            user: Row of the user.
        """
        self.item[user], self.time[user] = NO_USER, NO_TIME

    def make_queries(self, users: Rows, at: int) -> Queries:
        """Make queries, without targets, for the next item of users.

        Args:
            users: Rows, (B,).
            at: Query time in seconds.

        Returns:
            Queries, (B,).
        """
        item, time = self.item[users], self.time[users]  # (B, T)
        size, most = item.shape
        offset = np.arange(size + 1) * most
        histories = Histories(item.ravel(), time.ravel(), offset, np.arange(item.size))
        start = offset[1:] - (item != NO_USER).sum(1)
        return Queries(histories, users, np.full(size, at), np.full(size, NO_USER), start, offset[1:])
