"""State of a drift head while it serves: counts of all users, and states and last events of each.

An event costs microseconds: its user's rows are updated at once, and the event waits to be counted with others
(`buffered_counts`). The state depends on its events alone, to the bit, whenever it is read, saved or restored.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from llmrec.config.drift import MAX_HISTORY, TermName
from llmrec.data.histories import Queries
from llmrec.drift.head import DriftHead
from llmrec.drift.mixture import build_recent_events, read_context
from llmrec.drift.stream import ReplayStream, StreamCounts, take_prefix
from llmrec.drift.terms import SWITCHES, chain
from llmrec.drift.terms.pair_counts import NO_USER
from llmrec.drift.terms.term_inputs import Events, RecentEvents
from llmrec.drift.terms.term_state import UserStates
from llmrec.errors import DataError
from llmrec.inference.live.buffered_counts import BufferedCounts
from llmrec.inference.live.recent_events import RecentHistories
from llmrec.inference.live.seen_items import SeenItems
from llmrec.inference.live.state_file import (
    check_metadata,
    read_state,
    resize_items,
    state_metadata,
    unreadable_error,
    write_state,
)
from llmrec.utils.arrays import NO_TIME, Arrays, Rows

END_OF_TIME = 253_402_300_800  # the year 10000; milliseconds lie beyond
WAITING, SEEN = "waiting.events", "seen"
FREE_SIZE = WAITING, f"{SEEN}.item"  # arrays whose size the number of users and items does not give
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
        self._counted = BufferedCounts(stream.new_counts(), counted)

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
        self._counted.invalidate().grow_items(stream.n_items)
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
        self._counted.observe(user, item, time, late=late)

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
        newest = self._find_newest_before(user, time)
        late = time < newest
        for states in self.users.values():
            states.observe_many(user, item, np.where(late | (newest == NO_TIME), 0, time - newest))
        self.last.insert_many(user, item, time)
        self.seen.insert_many(user, item)
        self._counted.observe_many(user, item, time, late)

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
        self._counted.forget(user, Events.from_user(item, time))
        self.last.forget(user)
        self.seen.forget(user)
        for states in self.users.values():
            states.forget(user)

    def interest_at(self, user: int, at: int) -> Tensor:
        """Return the probabilities of a user's latent states in the chain.

        Args:
            user: Row of the user.
            at: Query time in seconds.

        Returns:
            (K,)

        Raises:
            DataError: As `interests_at`.
        """
        return self.interests_at(np.array([user]), at)[0]

    def interests_at(self, users: Rows, at: int) -> Tensor:
        """Return the probabilities of several users' latent states in the chain.

        Args:
            users: Rows, (B,).
            at: Query time in seconds.

        Returns:
            (B, K)

        Raises:
            DataError: If the head has no chain, and as `make_queries`.
        """
        if chain.NAME not in self.users:
            raise DataError("live state", ["the head has no chain to tell interest by; fit it with the term `chain`"])
        return self.states_at(users, at)[chain.NAME]

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
                known = f"user {user} is asked about at {at}, and has an event at {newest}"
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
        counts = self._counted.flushed_counts()
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
        self._counted = BufferedCounts(self._counted.counts, self._counted.terms)
        self._counted.counts.restore_counts(sums, self.stream.n_items)

    def save(self, path: Path, also: Arrays | None = None) -> None:
        """Write the state to one file, whole or not at all.

        Args:
            path: File to write.
            also: More arrays to write, which `load` ignores.
        """
        sizes = {"n_users": self.n_users, "n_items": self.stream.n_items}
        write_state(path, (also or {}) | self._collect_arrays(), state_metadata(self.head, self.stream) | sizes)

    @classmethod
    def load(cls, path: Path, head: DriftHead, stream: ReplayStream, *, most: int = MAX_HISTORY) -> OnlineState:
        """Load a saved state, to continue from it to the bit.

        Args:
            path: File to read.
            head: Fitted weights.
            stream: Stream that the head was fitted with; items may have been added since.
            most: Last events in a history.

        Returns:
            The state.

        Raises:
            StateError: If the file is damaged or foreign, or of another chain, other settings or more items.
        """
        arrays, facts = read_state(path)
        check_metadata(path, facts, state_metadata(head, stream))
        try:
            arrays = resize_items(arrays, int(facts["n_items"]), stream.n_items)
            state = cls(head, replace(stream, n_users=len(arrays["item"])), most=most)
            state._restore(arrays, int(facts["n_users"]))
        except (LookupError, TypeError, ValueError) as error:
            raise unreadable_error(path, error) from error
        return state

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

    def _find_newest_before(self, user: Rows, time: Rows) -> Rows:
        """Return the time of the same user's newest event that arrived before each event, or NO_TIME, (E,)."""
        order = np.argsort(user, kind="stable")
        users, first, count = np.unique(user[order], return_index=True, return_counts=True)
        shift = np.repeat(np.arange(len(users)), count) * END_OF_TIME  # so that no user's times reach the next one's
        so_far = np.maximum.accumulate(time[order] + shift) - shift
        before = np.concatenate([[NO_TIME], so_far[:-1]])
        before[first] = NO_TIME
        newest = np.empty_like(before)
        newest[order] = np.maximum(before, np.repeat(self.last.time[users, -1], count))
        return newest

    def _grow(self, n_rows: int) -> None:
        self.last.grow_users(n_rows)
        self.seen.grow_users(n_rows)
        self._counted.counts.grow_users(n_rows)
        for states in self.users.values():
            states.grow_users(n_rows)

    def _collect_arrays(self) -> Arrays:
        """Collect all arrays without copies, except of the waiting events."""
        arrays: Arrays = {"item": self.last.item, "time": self.last.time, WAITING: self._counted.pending_events()}
        for states in self.users.values():
            arrays |= states.export_state()
        seen = {f"{SEEN}.{key}": array for key, array in self.seen.export_state().items()}
        return arrays | self._counted.counts.export_state() | seen

    def _restore(self, arrays: Arrays, n_users: int) -> None:
        for name, own in self._collect_arrays().items():
            saved = arrays[name]
            if name not in FREE_SIZE and (saved.shape, saved.dtype) != (own.shape, own.dtype):
                raise ValueError(f"{name} is {saved.dtype} {saved.shape}, not {own.dtype} {own.shape}")
        seen = take_prefix(arrays, SEEN)
        largest = max(int(rows.max(initial=NO_USER)) for rows in (arrays["item"], seen["item"]))
        if largest >= self.stream.n_items or not 0 <= n_users <= len(self.last):
            raise ValueError("it names items or users that there are not")
        self._counted.restore(arrays[WAITING], n_users, self.stream.n_items)
        self.n_users, self.last.item, self.last.time = n_users, arrays["item"], arrays["time"]
        for states in self.users.values():
            states.restore(arrays)
        self._counted.counts.restore(arrays)
        self.seen.restore(seen)
