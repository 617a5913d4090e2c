"""What moves while a fitted drift head serves: popularity, transitions, and each user's beliefs and last events.

An event costs microseconds: its user's rows are brought up to date at once, and the event waits to be counted with
others, since counting hundreds costs little more than counting one. Where counts are read before, those that wait are
counted on a copy: sums of floating-point numbers depend on their order, and so the state, to the last bit, is what its
events make of it, whenever it was asked, saved or restored between them.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from llmrec.data.histories import Queries
from llmrec.data.interactions import Rows
from llmrec.errors import DataError
from llmrec.evaluation.replay import MAX_HISTORY, Stream, World, parts_of, recent_of
from llmrec.models.drift.environment import NEVER, Arrays, Environment
from llmrec.models.drift.head import DriftHead, Recent
from llmrec.models.drift.transitions import NOBODY, Transitions
from llmrec.retrieval.beliefs import Beliefs
from llmrec.retrieval.last_events import LastEvents
from llmrec.retrieval.state_file import check_same, facts_of, read_state, unreadable, write_state

END_OF_TIME = 253_402_300_800  # the year 10000; milliseconds lie beyond
MOST_WAITING = 512  # events that are not counted yet, but on a copy each time that counts are read
WAITING = "waiting"
REMEDIES = {
    "user": "make place for new users with add_users",
    "item": "give a row of the catalog",
    "time": "give seconds since 1970",
}


class LiveState:
    """Begins empty, takes events in order of arrival, and answers as of any time from a user's newest event on.

    It serves everything observed so far, a user's own last minute included, where `DriftScorer` at a daily refresh
    counts whole days only: the two agree on a query at the start of a day. Counts are everyone's: asked for a time that
    someone's event is not before, they are as of just after the newest event.

    A late event, older than its user's newest, counts in the environment, makes no pairs, takes its place by time among
    the last events, and is learnt by the beliefs without moving their time. An event given twice counts twice. The
    beliefs know all of a user's events, where `LatentChain.now` begins anew with the last 50: the same up to 50 events.

    head: fitted. stream: what it was fitted with: its configuration, tables, items and users count here, its log does
    not. Events that come in from several threads need a lock around this.
    """

    def __init__(self, head: DriftHead, stream: Stream) -> None:
        if "chain" in head.terms and stream.chain is None:
            raise ValueError("the head has a chain and the stream has none; give it ChainTables")
        tables = stream.chain if "chain" in head.terms else None
        self.head, self.stream, self.n_users = head, stream, stream.n_users
        self.last = LastEvents(self.n_users, MAX_HISTORY)
        self.beliefs = None if tables is None else Beliefs(tables, self.n_users)
        self._world = stream.world()  # with every full batch counted
        self._ahead: World | None = None  # with what waits
        self._waiting: list[tuple[int, int, int, bool]] = []  # user, item, time, whether late

    def add_users(self, count: int) -> None:
        """Make place for new users, whose rows follow those there are."""
        self.n_users += count
        if self.n_users > len(self.last):
            self._grow(max(self.n_users, 2 * len(self.last)))  # so that users who come one by one cost little

    def observe(self, user: int, item: int, time: int) -> None:
        """Take note of an event at `time`, in seconds.

        Raises:
            DataError: no such user, item or time; then nothing has changed.
        """
        self._check(user=user, item=item, time=time)
        newest = self.last.newest(user)
        late = time < newest
        if self.beliefs is not None:
            self.beliefs.observe(user, item, 0 if late or newest == NEVER else time - newest)
        self.last.insert(user, item, time)
        self._waiting.append((user, item, time, late))
        self._ahead = None
        if len(self._waiting) >= MOST_WAITING:
            self._count()

    def interest(self, user: int, at: int) -> Tensor:
        """(K,) chances of the chain's states."""
        return self._interests(np.array([user]), at)[0]

    def queries(self, users: Rows, at: int) -> Queries:
        """What a model's scorer is to be asked about B users; histories hold their last 50 events.

        Raises:
            DataError: no such user, or an event of one is known that is later than `at`.
        """
        for user in users.tolist():
            self._check(user=user, time=at)
            if at < (newest := self.last.newest(user)):
                known = f"user {user} is asked about at {at}, and has an event at {newest}"
                raise DataError("live state", [f"{known}; ask for a time from then on"])
        return self.last.queries(users, at)

    def recent(self, users: Rows, at: int) -> Recent:
        """Last events of B users; raises as `queries` does."""
        return recent_of(self.queries(users, at), self.stream.trained_until)

    def world(self, at: int) -> World:
        """Environment and transitions with every event counted, as of `at` or just after the newest event."""
        world = self._counted_ahead()
        newest = world.environment.newest
        world.moment = at if newest is None else max(at, newest + 1)
        return world

    @torch.no_grad()
    def scores(self, base_scores: Tensor, users: Rows, at: int) -> Tensor:
        """(B, N) log chances of all items by base_scores (B, N), of the model under the head; raises as `queries`."""
        interest = None if self.beliefs is None else self._interests(users, at)
        recent, world = self.recent(users, at), self.world(at)
        return self.head.mix(*parts_of(self.head, self.stream, base_scores, recent, world, interest))

    def save(self, path: Path) -> None:
        """Write all of it to one file, whole or not at all."""
        write_state(path, self._arrays(), facts_of(self.head, self.stream) | {"n_users": self.n_users})

    @classmethod
    def load(cls, path: Path, head: DriftHead, stream: Stream) -> LiveState:
        """What was saved, to go on from there bit for bit.

        Raises:
            StateError: a damaged or foreign file, or a state of another chain, other settings or another catalog size.
        """
        arrays, facts = read_state(path)
        check_same(path, facts, facts_of(head, stream))
        try:
            state = cls(head, replace(stream, n_users=len(arrays["item"])))
            state._restore(arrays, int(facts["n_users"]))
        except (LookupError, TypeError, ValueError) as error:
            raise unreadable(path, error) from error
        return state

    def _check(self, **given: int) -> None:
        ends = {"user": self.n_users, "item": self.stream.n_items, "time": END_OF_TIME}
        problems = [
            f"{name} {value} is not within 0 .. {ends[name] - 1}; {REMEDIES[name]}"
            for name, value in given.items()
            if not 0 <= value < ends[name]
        ]
        if problems:
            raise DataError("live state", problems)

    def _interests(self, users: Rows, at: int) -> Tensor:
        """(B, K)"""
        if self.beliefs is None:
            raise DataError("live state", ["the head has no chain to tell interest by; fit it with the term `chain`"])
        newest = self.queries(users, at).histories.time[MAX_HISTORY - 1 :: MAX_HISTORY]  # (B,)
        return self.beliefs.interest(users, at - np.where(newest == NEVER, at, newest))

    def _count(self) -> None:
        """Count the waiting events, in one batch."""
        if self._waiting:
            item, time, fresh = self._columns()
            self._world.environment.observe(item, time)
            self._world.transitions.observe(*fresh)
            self._waiting.clear()
            self._ahead = None

    def _counted_ahead(self) -> World:
        """With the waiting events counted, on a copy."""
        if not self._waiting:
            return self._world
        if self._ahead is None:
            item, time, fresh = self._columns()
            whole = self._world
            self._ahead = World(whole.environment.ahead(item, time), whole.transitions.ahead(*fresh))
        return self._ahead

    def _columns(self) -> tuple[Rows, Rows, tuple[Rows, Rows, Rows]]:
        """Items and times of the waiting events, and users, items and times of those that make pairs: within a batch
        transitions go by time, where late is what arrived after a newer one.
        """
        user, item, time, late = np.array(self._waiting, dtype=np.int64).T
        fresh = late == 0
        return item, time, (user[fresh], item[fresh], time[fresh])

    def _grow(self, n_rows: int) -> None:
        self.last.grow(n_rows)
        self._world.transitions.grow(n_rows)
        if self.beliefs is not None:
            self.beliefs.grow(n_rows)

    def _parts(self) -> dict[str, Environment | Transitions]:
        return {"environment": self._world.environment, "transitions": self._world.transitions}

    def _arrays(self) -> Arrays:
        """No copies, but of what waits."""
        waiting = np.array(self._waiting, dtype=np.int64).reshape(-1, 4)
        arrays: Arrays = {"item": self.last.item, "time": self.last.time, WAITING: waiting}
        if self.beliefs is not None:
            arrays["belief"] = self.beliefs.rows
        for name, part in self._parts().items():
            arrays |= {f"{name}.{key}": array for key, array in part.state().items()}
        return arrays

    def _restore(self, arrays: Arrays, n_users: int) -> None:
        for name, own in self._arrays().items():
            saved = arrays[name]
            own = np.zeros((min(len(saved), MOST_WAITING), 4), dtype=np.int64) if name == WAITING else own
            if (saved.shape, saved.dtype) != (own.shape, own.dtype):
                raise ValueError(f"{name} is {saved.dtype} {saved.shape}, not {own.dtype} {own.shape}")
        waiting = arrays[WAITING]
        items = arrays["item"], arrays["transitions.last_item"], waiting[:, 1]
        if max(int(rows.max(initial=NOBODY)) for rows in items) >= self.stream.n_items:
            raise ValueError("it names items that there are not")
        if not waiting[:, 0].max(initial=NOBODY) < n_users <= len(self.last) or waiting.min(initial=0) < 0:
            raise ValueError("it names users that there are not")
        self._waiting = [(user, item, time, bool(late)) for user, item, time, late in waiting.tolist()]
        self.n_users, self.last.item, self.last.time = n_users, arrays["item"], arrays["time"]
        if self.beliefs is not None:
            self.beliefs.rows = arrays["belief"]
        for name, part in self._parts().items():
            part.restore({key.removeprefix(f"{name}."): array for key, array in arrays.items() if key.startswith(name)})
