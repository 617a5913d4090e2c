"""What moves while a fitted drift head serves: popularity, transitions, and each user's beliefs and last events.

An event costs microseconds: its user's rows are brought up to date at once, and the event waits to be counted with
others (`counted`). The state is, to the last bit, what its events make of it, whenever it was asked, saved or restored
between them.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from llmrec.config.drift import MAX_HISTORY
from llmrec.data.histories import Queries
from llmrec.drift.head import DriftHead, RecentEvents
from llmrec.drift.mixture import build_recent_events, compute_mixture_terms
from llmrec.drift.stream import ReplayStream, StreamCounts
from llmrec.drift.terms.environment import Environment
from llmrec.drift.terms.transitions import NO_USER, Transitions
from llmrec.errors import DataError
from llmrec.inference.live.buffered_counts import BufferedCounts
from llmrec.inference.live.interest_state import InterestState
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
WAITING = "waiting.events"
REMEDIES = {
    "user": "make place for new users with add_users",
    "item": "give a row of the catalog",
    "time": "give seconds since 1970",
}


class OnlineState:
    """Begins empty, takes events in order of arrival, and answers as of any time from a user's newest event on.

    It serves everything observed so far, a user's own last minute included, where `DriftScorer` at a daily refresh
    counts whole days only: the two agree on a query at the start of a day. Counts are everyone's: asked for a time that
    someone's event is not before, they are as of just after the newest event.

    A late event, older than its user's newest, counts in the environment, makes no pairs, takes its place by time among
    the last events, and is learnt by the beliefs without moving their time. An event given twice counts twice. The
    beliefs know all of a user's events, where `LatentChain.belief_at_query` begins anew with the last 50: the same up
    to 50 events.

    head: fitted. stream: what it was fitted with: its configuration, tables, items and users count here, its log does
    not. most: last events that histories hold. Events that come in from several threads need a lock around this.
    """

    def __init__(self, head: DriftHead, stream: ReplayStream, most: int = MAX_HISTORY) -> None:
        if "chain" in head.terms and stream.chain is None:
            raise ValueError("the head has a chain and the stream has none; give it ChainTables")
        tables = stream.chain if "chain" in head.terms else None
        self.head, self.stream, self.n_users = head, stream, stream.n_users
        self.last, self.seen, self.most = RecentHistories(self.n_users, most), SeenItems(self.n_users), most
        self.beliefs = None if tables is None else InterestState(tables, self.n_users)
        self._counted = BufferedCounts(stream.new_counts(), makes_pairs=bool({"transitions", "gate"} & head.terms))

    def add_users(self, count: int) -> None:
        """Make place for new users, whose rows follow those there are."""
        self.n_users += count
        if self.n_users > len(self.last):
            self._grow(max(self.n_users, 2 * len(self.last)))  # so that users who come one by one cost little

    def extend(self, stream: ReplayStream) -> None:
        """Go on with more items: `stream` has those there are, in the same rows, and new ones after them.

        Raises:
            ValueError: it has fewer items, or lacks the chain.
        """
        if stream.n_items < self.stream.n_items or (self.beliefs is not None and stream.chain is None):
            raise ValueError(f"a stream of {stream.n_items} items cannot take the place of {self.stream.n_items}")
        counts = self._counted.invalidate()
        counts.environment.grow_items(stream.n_items)
        counts.transitions.grow_items(stream.n_items)
        if self.beliefs is not None and stream.chain is not None:
            self.beliefs.set_tables(stream.chain)
        self.stream = stream

    def observe(self, user: int, item: int, time: int) -> None:
        """Take note of an event at `time`, in seconds.

        Raises:
            DataError: no such user, item or time; then nothing has changed.
        """
        self.validate_events(user=user, item=item, time=time)
        newest = self.last.last_time(user)
        late = time < newest
        if self.beliefs is not None:
            self.beliefs.observe(user, item, 0 if late or newest == NO_TIME else time - newest)
        self.last.insert(user, item, time)
        self.seen.insert(user, item)
        self._counted.observe(user, item, time, late)

    def observe_many(self, user: Rows, item: Rows, time: Rows) -> None:
        """Take note of events (E,) in order of arrival, as `observe` does of one, in a fraction of the time.

        Raises:
            DataError: as `observe`; then nothing has changed.
        """
        if not len(user):
            return
        self.validate_events(user=user, item=item, time=time)
        newest = self._find_newest_before(user, time)
        late = time < newest
        if self.beliefs is not None:
            self.beliefs.observe_many(user, item, np.where(late | (newest == NO_TIME), 0, time - newest))
        self.last.insert_many(user, item, time)
        self.seen.insert_many(user, item)
        self._counted.observe_many(user, item, time, late)

    def forget(self, user: int, older: tuple[Rows, Rows] | None = None) -> None:
        """Leave nothing of a user: what the last events added to everyone's counts is taken back, so that these are, to
        rounding, what they would be without. older: items and times of those before the last `most`, which would stay
        in the counts. Of events that came late, which made no pairs, too much is taken back.

        Raises:
            DataError: no such user.
        """
        self.validate_events(user=user)
        self._counted.flush()
        item, time = self.last.get_events(user)
        if older is not None:
            item, time = np.concatenate([older[0], item]), np.concatenate([older[1], time])
        self._counted.world.environment.subtract(item, time)
        if self._counted.makes_pairs:
            self._counted.world.transitions.subtract(item, time)
        self.last.forget(user)
        self.seen.forget(user)
        self._counted.world.transitions.forget(user)
        if self.beliefs is not None:
            self.beliefs.rows[user] = self.beliefs.newcomer

    def interest_at(self, user: int, at: int) -> Tensor:
        """(K,) chances of the chain's states."""
        return self.interests_at(np.array([user]), at)[0]

    def interests_at(self, users: Rows, at: int) -> Tensor:
        """(B, K) `interest_at` of several users.

        Raises:
            DataError: the head has no chain, and as `make_queries` does.
        """
        if self.beliefs is None:
            raise DataError("live state", ["the head has no chain to tell interest by; fit it with the term `chain`"])
        newest = self.make_queries(users, at).histories.time[self.most - 1 :: self.most]  # (B,)
        return self.beliefs.interest(users, at - np.where(newest == NO_TIME, at, newest))

    def make_queries(self, users: Rows, at: int) -> Queries:
        """What a model's scorer is to be asked about B users; histories hold their last `most` events.

        Raises:
            DataError: no such user, or an event of one is known that is later than `at`.
        """
        for user in users.tolist():
            self.validate_events(user=user, time=at)
            if at < (newest := self.last.last_time(user)):
                known = f"user {user} is asked about at {at}, and has an event at {newest}"
                raise DataError("live state", [f"{known}; ask for a time from then on"])
        return self.last.make_queries(users, at)

    def recent_events(self, users: Rows, at: int) -> RecentEvents:
        """Last events of B users; raises as `make_queries` does."""
        return build_recent_events(self.make_queries(users, at), self.stream.trained_until)

    def counts_at(self, at: int) -> StreamCounts:
        """Environment and transitions with every event counted, as of `at` or just after the newest event."""
        counts = self._counted.flushed_counts()
        newest = counts.environment.newest
        counts.moment = at if newest is None else max(at, newest + 1)
        return counts

    @torch.no_grad()
    def score(self, base_scores: Tensor, users: Rows, at: int) -> Tensor:
        """(B, N) log chances of all items by base_scores (B, N) of the model below it; raises as `make_queries`."""
        interest = None if self.beliefs is None else self.interests_at(users, at)
        recent, counts = self.recent_events(users, at), self.counts_at(at)
        return self.head.mix_log_probabilities(
            *compute_mixture_terms(self.head, self.stream, base_scores, recent, counts, interest)
        )

    def restore_counts(self, sums: Arrays) -> None:
        """Count on from `StreamCounts.export_counts`, in place of what has been counted.

        Raises:
            LookupError, ValueError: sums of other items or settings, or none.
        """
        self._counted = BufferedCounts(self._counted.world, self._counted.makes_pairs)
        self._counted.world.restore(sums)

    def save(self, path: Path, also: Arrays | None = None) -> None:
        """Write all of it to one file, whole or not at all. also: what else is to lie in it; `load` passes it over."""
        write_state(
            path, (also or {}) | self._collect_arrays(), state_metadata(self.head, self.stream) | self._get_sizes()
        )

    @classmethod
    def load(cls, path: Path, head: DriftHead, stream: ReplayStream, most: int = MAX_HISTORY) -> OnlineState:
        """What was saved, to go on from there bit for bit. Items of `stream` that came since are taken in.

        Raises:
            StateError: a damaged or foreign file, or a state of another chain, other settings or more items.
        """
        arrays, facts = read_state(path)
        check_metadata(path, facts, state_metadata(head, stream))
        try:
            arrays = resize_items(arrays, int(facts["n_items"]), stream.n_items)
            state = cls(head, replace(stream, n_users=len(arrays["item"])), most)
            state._restore(arrays, int(facts["n_users"]))
        except (LookupError, TypeError, ValueError) as error:
            raise unreadable_error(path, error) from error
        return state

    def validate_events(self, **given: int | Rows) -> None:
        """Whether a user, item or time, or each of several, is one that there can be.

        Raises:
            DataError: it is none.
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

    def _get_sizes(self) -> dict[str, int]:
        return {"n_users": self.n_users, "n_items": self.stream.n_items}

    def _find_newest_before(self, user: Rows, time: Rows) -> Rows:
        """(E,) time of the newest event of the same user that arrived before each event, or NEVER."""
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
        self._counted.world.transitions.grow_users(n_rows)
        if self.beliefs is not None:
            self.beliefs.grow_users(n_rows)

    def _get_parts(self) -> dict[str, Environment | Transitions | SeenItems]:
        counts = self._counted.world
        return {"environment": counts.environment, "transitions": counts.transitions, "seen": self.seen}

    def _collect_arrays(self) -> Arrays:
        """No copies, but of what waits."""
        arrays: Arrays = {"item": self.last.item, "time": self.last.time, WAITING: self._counted.pending_events()}
        if self.beliefs is not None:
            arrays["belief"] = self.beliefs.rows
        for name, part in self._get_parts().items():
            arrays |= {f"{name}.{key}": array for key, array in part.export_state().items()}
        return arrays

    def _restore(self, arrays: Arrays, n_users: int) -> None:
        for name, own in self._collect_arrays().items():
            saved = arrays[name]
            if name not in ("seen.item", WAITING) and (saved.shape, saved.dtype) != (own.shape, own.dtype):
                raise ValueError(f"{name} is {saved.dtype} {saved.shape}, not {own.dtype} {own.shape}")
        items = arrays["item"], arrays["transitions.last_item"], arrays["seen.item"]
        largest = max(int(rows.max(initial=NO_USER)) for rows in items)
        if largest >= self.stream.n_items or not 0 <= n_users <= len(self.last):
            raise ValueError("it names items or users that there are not")
        self._counted.restore(arrays[WAITING], n_users, self.stream.n_items)
        self.n_users, self.last.item, self.last.time = n_users, arrays["item"], arrays["time"]
        if self.beliefs is not None:
            self.beliefs.rows = arrays["belief"]
        for name, part in self._get_parts().items():
            part.restore({key.removeprefix(f"{name}."): array for key, array in arrays.items() if key.startswith(name)})
