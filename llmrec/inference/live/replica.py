"""A state that follows a store of events: what it is depends on them and their order alone.

It begins from a snapshot and the events since, or with all of them, and takes what any process has stored since it last
looked, so that processes that share a store answer alike. Once a user has been deleted no state may know of them: it is
made anew from what is left, beginning with the last snapshot before that user's first event.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock, RLock
from typing import Generic, NamedTuple, Protocol, TypeVar

from llmrec.errors import DataError, LlmrecError
from llmrec.inference.live.store.event_store import EventStore, NewEvent, StoredEvent

PARTIAL = ".partial"
logger = logging.getLogger(__name__)


class ReplicatedState(Protocol):
    """A state that events move."""

    def observe(self, user: str, item: str, time: int) -> None:
        """Raises DataError where the event cannot be used; then nothing has changed."""
        ...

    def save(self, path: Path) -> None: ...


State = TypeVar("State", bound=ReplicatedState)


class Snapshot(NamedTuple):
    """number: of the newest event that it has counted. n_deletions: those it knows of."""

    path: Path
    number: int
    n_deletions: int


@dataclass
class VersionedState(Generic[State]):
    """A state with the number of the newest event that it has looked at, and of the deletions that it knows of."""

    state: State
    number: int
    n_deletions: int


class Replica(Generic[State]):
    """A state, brought up to date.

    begin: makes the state that no event has moved. load: goes on from what a state has saved. folder: of snapshots,
    `keep` of them, which processes may share; none are kept without it. A snapshot that cannot be loaded, as after a
    change of model, is passed over. Threads may share this: hold `lock` while `state` is asked.
    """

    def __init__(
        self,
        store: EventStore,
        begin: Callable[[], State],
        load: Callable[[Path], State],
        folder: Path | None = None,
        keep: int = 3,
    ) -> None:
        self.store, self.begin, self.load, self.folder, self.keep = store, begin, load, folder, keep
        self.lock, self._renewal = RLock(), Lock()
        self._version = self._rebuild()

    @property
    def state(self) -> State:
        return self._version.state

    @property
    def number(self) -> int:
        """Of the newest event that the state has looked at."""
        return self._version.number

    def append(self, events: Sequence[NewEvent]) -> list[StoredEvent]:
        """Store events, and bring the state up to date with them; raises as `EventStore.append` does."""
        stored = self.store.append(events)
        with self.lock:
            self._apply_events(self._version)
        return stored

    def catch_up(self) -> None:
        """Take in what any process has stored, or deleted, since."""
        if self._is_outdated():
            with self._renewal:
                if self._is_outdated():  # still: another thread may have been here
                    version = self._rebuild()
                    with self.lock:
                        self._version = version
        with self.lock:
            self._apply_events(self._version)

    def save_snapshot(self) -> Path | None:
        """Save the state as it is, to begin from later; of those there are the newest are kept."""
        if self.folder is None:
            return None
        self.catch_up()
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.lock:
            path = self.folder / f"{self.store.id}-{self._version.number}-{self._version.n_deletions}"
            partial = path.with_name(f"{path.name}.{os.getpid()}{PARTIAL}")
            try:
                self.state.save(partial)
                partial.replace(path)
            except FileNotFoundError:  # a user was deleted by another process meanwhile, and this with them
                return None
        for old in _list_snapshots(self.store, self.folder)[: -self.keep]:
            old.path.unlink(missing_ok=True)
        return path

    def delete_user(self, user: str, of_log: bool = False) -> int:
        """Delete a user from the store, the snapshots and the state; gives the number of events that they had. of_log:
        as in `EventStore.delete_user`; it is for `begin` to leave out who is forgotten.

        Raises:
            StoreError: as `EventStore.delete_user` does.
        """
        try:
            return self.store.delete_user(user, of_log)
        finally:
            self.catch_up()

    def _is_outdated(self) -> bool:
        return self.store.get_position().n_deletions != self._version.n_deletions

    def _rebuild(self) -> VersionedState[State]:
        # Deletions first: of one that comes meanwhile the next look will tell.
        n_deletions, version = self.store.get_position().n_deletions, None
        for snapshot in reversed(prune_snapshots(self.store, self.folder)):
            try:
                version = VersionedState(self.load(snapshot.path), snapshot.number, n_deletions)
                break
            except LlmrecError as error:
                logger.warning("snapshot passed over: %s", error)
        version = version or VersionedState(self.begin(), 0, n_deletions)
        self._apply_events(version)
        return version

    def _apply_events(self, version: VersionedState[State]) -> None:
        newest = self.store.get_position().number
        if newest == version.number:
            return
        for event in self.store.read_events(version.number):
            try:
                version.state.observe(event.user, event.item, event.time)
            except DataError as error:  # it is stored, and so will be passed over each time
                logger.warning("event %d is of no use to the state: %s", event.number, error)
            version.number = event.number
        version.number = max(version.number, newest)  # the events of a deleted user may have been the newest


def prune_snapshots(store: EventStore, folder: Path | None) -> list[Snapshot]:
    """Snapshots of a store that know nobody who was deleted, the newest last; others are deleted as well."""
    deletions, newest, kept = store.read_deletions(), store.get_position().number, []
    for path in folder.glob(f"{store.id}-*{PARTIAL}") if deletions and folder is not None else ():
        path.unlink(missing_ok=True)  # of processes that were killed while they wrote
    for one in _list_snapshots(store, folder):
        if one.number > newest or any(d.number > one.n_deletions and d.since <= one.number for d in deletions):
            one.path.unlink(missing_ok=True)
        else:
            kept.append(one)
    return kept


def _list_snapshots(store: EventStore, folder: Path | None) -> list[Snapshot]:
    """Of a store, the newest last."""
    found = []
    for path in folder.glob(f"{store.id}-*") if folder is not None else ():
        if not path.name.endswith(PARTIAL):
            _, number, n_deletions = path.name.split("-")
            found.append(Snapshot(path, int(number), int(n_deletions)))
    return sorted(found, key=lambda one: one[1:])
