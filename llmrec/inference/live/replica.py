"""A state that follows an event store: it depends on the events and their order alone.

It starts from a snapshot and the events since, or from all events, and reads what any process has stored since its last
look, so that processes that share a store give equal answers. Once a user has been deleted no state may contain the
user: it is rebuilt from the remaining events, starting with the last snapshot before that user's first event.
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
from llmrec.inference.live.store.event_store import EventStore
from llmrec.inference.live.store.stored_events import NewEvent, StoredEvent

PARTIAL = ".partial"
logger = logging.getLogger(__name__)


class ReplicatedState(Protocol):
    """A state that events change."""

    def observe(self, user: str, item: str, time: int) -> None:
        """Record an event.

        Args:
            user: The user's id.
            item: Id of a catalog item.
            time: Seconds since 1970.

        Raises:
            DataError: If the event cannot be used; then nothing has changed.
        """
        ...

    def save(self, path: Path) -> None:
        """Save the state.

        Args:
            path: File to write.
        """
        ...


State = TypeVar("State", bound=ReplicatedState)


class Snapshot(NamedTuple):
    """A saved state."""

    path: Path
    """File of the state."""
    number: int
    """Number of the newest event that it contains."""
    n_deletions: int
    """Deletions that it takes into account."""


@dataclass
class VersionedState(Generic[State]):
    """A state and how much of the store it contains."""

    state: State
    """State to update."""
    number: int
    """Number of the newest event that the state has read."""
    n_deletions: int
    """Deletions that it takes into account."""


class Replica(Generic[State]):
    """A state that is kept up to date with an event store.

    Threads may share it: hold `lock` while you read `state`.

    Attributes:
        store: Event store to follow.
        begin: Makes the state without events of the store.
        load: Loads a saved state.
        folder: Folder of snapshots, which processes may share; None keeps none.
        keep: Snapshots to keep.
        lock: Held while the state changes.
    """

    def __init__(
        self,
        store: EventStore,
        begin: Callable[[], State],
        load: Callable[[Path], State],
        *,
        folder: Path | None = None,
        keep: int = 3,
    ) -> None:
        """Build the state from the newest snapshot that can be loaded and the events since.

        A snapshot that cannot be loaded, as after a change of model, is skipped.

        Args:
            store: Event store to follow.
            begin: Makes the state without events of the store, and leaves out deleted users.
            load: Loads a saved state.
            folder: Folder of snapshots, which processes may share; None keeps none.
            keep: Snapshots to keep.

        Raises:
            StoreError: If the store cannot be read.
        """
        self.store, self.begin, self.load, self.folder, self.keep = store, begin, load, folder, keep
        self.lock, self._renewal = RLock(), Lock()
        self._version = self._rebuild()

    @property
    def state(self) -> State:
        """Current state."""
        return self._version.state

    @property
    def number(self) -> int:
        """Number of the newest event that the state has read."""
        return self._version.number

    def append(self, events: Sequence[NewEvent]) -> list[StoredEvent]:
        """Store events and update the state with them.

        Args:
            events: Events to store, all or none.

        Returns:
            The events that were not stored before.

        Raises:
            DataError: As `EventStore.append`.
            StoreError: As `EventStore.append`.
        """
        stored = self.store.append(events)
        with self.lock:
            self._apply_events(self._version)
        return stored

    def catch_up(self) -> None:
        """Update the state with everything that any process has stored or deleted since.

        Raises:
            StoreError: If the store cannot be read.
        """
        if self._is_outdated():
            with self._renewal:
                if self._is_outdated():  # another thread may have rebuilt it
                    version = self._rebuild()
                    with self.lock:
                        self._version = version
        with self.lock:
            self._apply_events(self._version)

    def save_snapshot(self) -> Path | None:
        """Save the current state as a snapshot, and remove all but the newest snapshots.

        Returns:
            File of the snapshot; None without a folder, or if another process deleted a user meanwhile.
        """
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
            except FileNotFoundError:  # another process deleted a user and this file meanwhile
                return None
        for old in _list_snapshots(self.store, self.folder)[: -self.keep]:
            old.path.unlink(missing_ok=True)
        return path

    def delete_user(self, user: str, *, of_log: bool = False) -> int:
        """Delete a user from the store, the snapshots and the state.

        Args:
            user: The user's id.
            of_log: As in `EventStore.delete_user`; `begin` has to leave out deleted users.

        Returns:
            Number of events that the store had of the user.

        Raises:
            StoreError: As `EventStore.delete_user`.
        """
        try:
            return self.store.delete_user(user, of_log=of_log)
        finally:
            self.catch_up()

    def _is_outdated(self) -> bool:
        return self.store.get_position().n_deletions != self._version.n_deletions

    def _rebuild(self) -> VersionedState[State]:
        # Deletions first: the next look finds one that happens meanwhile.
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
            except DataError as error:  # it is stored, and so skipped each time
                logger.warning("event %d is of no use to the state: %s", event.number, error)
            version.number = event.number
        version.number = max(version.number, newest)  # the events of a deleted user may have been the newest


def prune_snapshots(store: EventStore, folder: Path | None) -> list[Snapshot]:
    """Remove the snapshots of a store that contain deleted users or events that the store lacks.

    Args:
        store: Event store of the snapshots.
        folder: Folder of snapshots, or None.

    Returns:
        Remaining snapshots, the newest last.
    """
    deletions, newest, kept = store.read_deletions(), store.get_position().number, []
    for path in folder.glob(f"{store.id}-*{PARTIAL}") if deletions and folder is not None else ():
        path.unlink(missing_ok=True)  # left by processes that were killed while writing
    for one in _list_snapshots(store, folder):
        if one.number > newest or any(d.number > one.n_deletions and d.since <= one.number for d in deletions):
            one.path.unlink(missing_ok=True)
        else:
            kept.append(one)
    return kept


def _list_snapshots(store: EventStore, folder: Path | None) -> list[Snapshot]:
    """List the snapshots of a store, the newest last."""
    found = []
    for path in folder.glob(f"{store.id}-*") if folder is not None else ():
        if not path.name.endswith(PARTIAL):
            _, number, n_deletions = path.name.split("-")
            found.append(Snapshot(path, int(number), int(n_deletions)))
    return sorted(found, key=lambda one: one[1:])
