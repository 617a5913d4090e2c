"""Events and deletions as the store keeps them, and checks of new ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from llmrec.data.times.timestamps import END_OF_TIME
from llmrec.errors import DataError

LONGEST_ID = 512  # characters


class NewEvent(NamedTuple):
    """An event to store."""

    user: str
    """The user's id."""
    item: str
    """Id of the item."""
    time: int
    """Seconds since 1970."""
    key: str | None = None
    """Key of a client that may send an event again; of events with the same user and key the first counts."""


class StoredEvent(NamedTuple):
    """An event of the store."""

    number: int
    """Number from 1 in the order of storage; those of deleted users are missing."""
    user: str
    """The user's id."""
    item: str
    """Id of the item."""
    time: int
    """Seconds since 1970."""

    @classmethod
    def from_row(cls, row: Sequence[Any]) -> StoredEvent:
        """Read a row of the database.

        Args:
            row: Number, user, item and time.

        Returns:
            The event.
        """
        return cls(int(row[0]), str(row[1]), str(row[2]), int(row[3]))


class Deletion(NamedTuple):
    """The deletion of some user."""

    number: int
    """Number from 1 in order."""
    since: int
    """Number of the user's first event: no state before it contains the user."""


class Position(NamedTuple):
    """Newest event and number of deletions of a store."""

    number: int
    """Number of the newest event ever."""
    n_deletions: int
    """Number of deletions."""


def check_events(events: Sequence[NewEvent]) -> None:
    """Check the ids, keys and times of events.

    Args:
        events: Events to store.

    Raises:
        DataError: If an id or key is empty, too long or not text, or a time is out of range.
    """
    problems = []
    for new in events:
        for name, value in (("user", new.user), ("item", new.item), ("key", "-" if new.key is None else new.key)):
            if not 0 < len(value) <= LONGEST_ID or "\0" in value or not _is_encodable(value):
                problems.append(f"{name} {value[:40]!r}: give 1 to {LONGEST_ID} characters of text, none of them NUL")
        if not 0 <= new.time < END_OF_TIME:
            problems.append(f"time {new.time}: give seconds since 1970, not milliseconds")
    if problems:
        raise DataError("events", problems)


def _is_encodable(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
