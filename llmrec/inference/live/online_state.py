"""State of a drift head while it serves: counts of all users, and states and last events of each.

An event costs microseconds: its user's rows are updated at once, and the event waits to be counted with others
(`buffered_counts`). The state depends on its events alone, to the bit, whenever it is read, saved or restored.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from llmrec.config.drift import MAX_HISTORY, TermName
from llmrec.data.histories import Queries
from llmrec.data.times.timestamps import END_OF_TIME
from llmrec.drift.head import DriftHead
from llmrec.drift.mixture import build_recent_events, read_context
from llmrec.drift.stream import ReplayStream, StreamCounts
from llmrec.drift.terms import SWITCHES
from llmrec.drift.terms.term_inputs import Events, RecentEvents
from llmrec.drift.terms.term_state import UserStates
from llmrec.errors import DataError
from llmrec.inference.live.buffered_counts import BufferedCounts
from llmrec.inference.live.recent_events import RecentHistories
from llmrec.inference.live.seen_items import SeenItems
from llmrec.utils.arrays import NO_TIME, Arrays, Rows

REMEDIES = {
    "user": "make place for new users with add_users",
    "item": "give a row of the catalog",
    "time": "give seconds since 1970",
}


class OnlineState:
    """State that takes events in order of arrival and answers at any time from a user's newest event on.

    It starts empty. It serves everything observed so far, a user's own last minute included, where `DriftScorer` at a
    daily refresh counts whole days only: the two agree on a query at the start of a day. Counts are of all users: at a
    time that is not after every event, they are as of just after the newest one. A late event, older than its user's
    newest, counts in the environment, makes no pairs, takes its place by time among the last events, and changes the
    beliefs without moving their time. An event given twice counts twice. Events of several threads need a lock.

    Attributes:
        head: Fitted weights.
        stream: Configuration, tables, items and users that the head was fitted with; its log is not read.
        most: Last events in a history.
        users: State of live users, by term.
        counted: Counts of all events, and the events that wait to be counted.
    """

    def __init__(self, head: DriftHead, stream: ReplayStream, *, most: int = MAX_HISTORY) -> None:
        """Start without events, with the users of the stream.

        Args:
            head: Fitted weights.
            stream: Configuration, tables, items and users that the head was fitted with.
            most: Last events in a history.
        """
        self.head, self.stream, self.n_users = head, stream, stream.n_users
        self.last, self.seen, self.most = RecentHistories(self.n_users, most), SeenItems(self.n_users), most
        self.users: dict[TermName, UserStates] = {
            name: states
            for name in SWITCHES
            if name in head.terms
            if (states := SWITCHES[name].new_users(stream, self.n_users)) is not None
        }
        counted = [name for name, term in SWITCHES.items() if term.is_counted(head.terms)]
        self.counted = BufferedCounts(stream.new_counts(), counted)

    def add_users(self, count: int) -> None:
        """Add users without events, whose rows follow the existing ones.

        Args:
            count: Number of users to add.
        """
        self.n_users += count
        if self.n_users > len(self.last):
            self._grow(max(self.n_users, 2 * len(self.last)))  # so that adding users one by one costs little

    def extend(self, stream: ReplayStream) -> None:
        """Continue with a stream that has the same items in the same rows, and new ones after them.

        Args:
            stream: Stream with tables of all items.

        Raises:
            ValueError: If it has fewer items, or lacks the tables of a term.
        """
        if stream.n_items < self.stream.n_items:
            raise ValueError(f"a stream of {stream.n_items} items cannot take the place of {self.stream.n_items}")
        for states in self.users.values():
            states.set_stream(stream)
        self.counted.invalidate().grow_items(stream.n_items)
        self.stream = stream

    def observe(self, user: int, item: int, time: int) -> None:
        """Record an event.

        Args:
            user: Row of the user.
            item: Row of the item.
            time: Seconds since 1970.

        Raises:
            DataError: If the user, item or time is out of range; then nothing has changed.
        """
        self.validate_events(user=user, item=item, time=time)
        newest = self.last.last_time(user)
        late = time < newest
        for states in self.users.values():
            states.observe(user, item, 0 if late or newest == NO_TIME else time - newest)
        self.last.insert(user, item, time)
        self.seen.insert(user, item)
        self.counted.observe(user, item, time, late=late)

    def observe_many(self, user: Rows, item: Rows, time: Rows) -> None:
        """Record events in order of arrival, as `observe` does one, in a fraction of the time.

        Args:
            user: Rows of the users, (E,).
            item: Rows of the items, (E,).
            time: Seconds since 1970, (E,).

        Raises:
            DataError: As `observe`; then nothing has changed.
        """
        if not len(user):
            return
        self.validate_events(user=user, item=item, time=time)
        newest = self.last.find_newest_before(user, time)
        late = time < newest
        for states in self.users.values():
            states.observe_many(user, item, np.where(late | (newest == NO_TIME), 0, time - newest))
        self.last.insert_many(user, item, time)
        self.seen.insert_many(user, item)
        self.counted.observe_many(user, item, time, late)

    def forget(self, user: int, older: tuple[Rows, Rows] | None = None) -> None:
        """Remove all events of a user, so that counts are, to rounding, those of the other users.

        Of events that came late, which made no pairs, too much is subtracted.

        Args:
            user: Row.
            older: Items and times of the events before the last `most`, which would stay in the counts.

        Raises:
            DataError: If there is no such user.
        """
        self.validate_events(user=user)
        item, time = self.last.get_events(user)
        if older is not None:
            item, time = np.concatenate([older[0], item]), np.concatenate([older[1], time])
        self.counted.forget(user, Events.from_user(item, time))
        self.last.forget(user)
        self.seen.forget(user)
        for states in self.users.values():
            states.forget(user)

    def states_at(self, users: Rows, at: int) -> dict[TermName, Tensor]:
        """Return the states of users by term.

        Args:
            users: Rows, (B,).
            at: Query time in seconds.

        Returns:
            (B, ...) for each term.

        Raises:
            DataError: As `make_queries`.
        """
        newest = self.make_queries(users, at).histories.time[self.most - 1 :: self.most]  # (B,)
        gap = at - np.where(newest == NO_TIME, at, newest)
        return {name: states.read(users, gap) for name, states in self.users.items()}

    def make_queries(self, users: Rows, at: int) -> Queries:
        """Make the queries of users, with their last `most` events as histories.

        Args:
            users: Rows, (B,).
            at: Query time in seconds.

        Returns:
            Queries without targets, (B,).

        Raises:
            DataError: If there is no such user, or one has an event later than `at`.
        """
        for user in users.tolist():
            self.validate_events(user=user, time=at)
            if at < (newest := self.last.last_time(user)):
                known = f"user {user} is queried at {at}, and has an event at {newest}"
                raise DataError("live state", [f"{known}; ask for a time from then on"])
        return self.last.make_queries(users, at)

    def recent_events(self, users: Rows, at: int) -> RecentEvents:
        """Collect the last events of users.

        Args:
            users: Rows, (B,).
            at: Query time in seconds.

        Returns:
            Recent events of B histories.

        Raises:
            DataError: As `make_queries`.
        """
        return build_recent_events(self.make_queries(users, at), self.stream.trained_until)

    def counts_at(self, at: int) -> StreamCounts:
        """Return the counts of every event, as of `at` or just after the newest event.

        Args:
            at: Query time in seconds.

        Returns:
            Counts, for reading only.
        """
        counts = self.counted.flushed_counts()
        newest = counts.environment.newest
        counts.moment = at if newest is None else max(at, newest + 1)
        return counts

    @torch.no_grad()
    def score(self, base_scores: Tensor, users: Rows, at: int) -> Tensor:
        """Compute the log-probabilities of all items.

        Args:
            base_scores: Scores of the model below the drift head, (B, N).
            users: Rows, (B,).
            at: Query time in seconds.

        Returns:
            (B, N)

        Raises:
            DataError: As `make_queries`.
        """
        recent, counts, states = self.recent_events(users, at), self.counts_at(at), self.states_at(users, at)
        return read_context(
            self.head, self.stream, base_scores, recent, counts=counts, states=states
        ).log_probabilities()

    def restore_counts(self, sums: Arrays) -> None:
        """Continue from exported counts, in place of all counts so far.

        Args:
            sums: Result of `StreamCounts.export_counts`.

        Raises:
            LookupError: If an array is missing.
            ValueError: If the counts are of other items or settings.
        """
        self.counted = BufferedCounts(self.counted.counts, self.counted.terms)
        self.counted.counts.restore_counts(sums, self.stream.n_items)

    def validate_events(self, **given: int | Rows) -> None:
        """Check a user, item or time, or several of each.

        Args:
            **given: `user`, `item` or `time`: a number, or an array of them.

        Raises:
            DataError: If one of them is out of range.
        """
        ends = {"user": self.n_users, "item": self.stream.n_items, "time": END_OF_TIME}
        problems = [
            f"{name} {value} is not within 0 .. {ends[name] - 1}; {REMEDIES[name]}"
            for name, values in given.items()
            for value in ([values] if isinstance(values, int) else values[(values < 0) | (values >= ends[name])][:1])
            if not 0 <= value < ends[name]
        ]
        if problems:
            raise DataError("live state", problems)

    def _grow(self, n_rows: int) -> None:
        self.last.grow_users(n_rows)
        self.seen.grow_users(n_rows)
        self.counted.counts.grow_users(n_rows)
        for states in self.users.values():
            states.grow_users(n_rows)
