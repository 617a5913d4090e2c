"""Events of live users in a database: SQLite in one file, or PostgreSQL by its URL, through the same statements.

Events are numbered from 1 in the order of their commits: a writer first takes the ledger's one row and holds it until
its commit. So whoever has read up to a number has missed none below it, which a sequence does not give: there number 5
can be seen before number 4 is committed. It also makes the store the one order of events that all processes follow.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any, NamedTuple

from llmrec.data.timestamps import END_OF_TIME
from llmrec.errors import DataError
from llmrec.inference.live.store.schema import SQLITE, StoreError, migrate, open_engine

from sqlalchemy import Connection, text  # isort: skip  (store_schema tells how to install it)
from sqlalchemy.exc import DatabaseError  # isort: skip

CHUNK_ROWS = 10_000  # events that are read in one statement
LONGEST_ID = 512  # characters


class NewEvent(NamedTuple):
    """time: seconds. key: of a client that may send an event again; of those with one user and key the first counts."""

    user: str
    item: str
    time: int
    key: str | None = None


class StoredEvent(NamedTuple):
    """number: from 1, in the order in which events were stored; those of deleted users are missing."""

    number: int
    user: str
    item: str
    time: int


class Deletion(NamedTuple):
    """That some user was deleted. since: the number of their first event, so that nothing before it knew of them."""

    number: int
    since: int


class Position(NamedTuple):
    """How far a store has come: the number of the newest event ever, and how many deletions there were."""

    number: int
    n_deletions: int


class EventStore:
    """Opens a store, and makes or migrates it where needed. Threads may share it; processes each open their own.

    Raises:
        ConfigError: a URL that cannot be used. StoreError: no database there, or one of a newer llmrec.
    """

    def __init__(self, url: str) -> None:
        self.engine = open_engine(url)
        with self.transaction(writes=True) as connection:
            migrate(connection)
            self.id = str(connection.execute(text("SELECT store_id FROM ledger")).scalar_one())

    def append(self, events: Sequence[NewEvent]) -> list[StoredEvent]:
        """Store events, all or none, and give those that were not there yet, with their numbers.

        Once this returns they are committed: no crash of a process, and no loss of power where the disk keeps its
        word, takes them away.

        Raises:
            DataError: an empty or overlong id, a time that is none, or a key that stands for another item already.
            StoreError: the database cannot be written; nothing is stored.
        """
        _check(events)
        with self.transaction(writes=True) as connection:
            number = allocate_numbers(connection, 0)
            fresh = _filter_new_events(connection, events)
            stored = [StoredEvent(number + position, *new[:3]) for position, new in enumerate(fresh, start=1)]
            if stored:
                allocate_numbers(connection, len(stored))
                rows = [one._asdict() | {"key": new.key} for one, new in zip(stored, fresh, strict=True)]
                connection.execute(text("INSERT INTO events VALUES (:number, :user, :item, :time, :key)"), rows)
        return stored

    def read_events(self, after: int = 0) -> Iterator[StoredEvent]:
        """All events with a larger number, in order. No transaction is kept open between two of them."""
        query = text(
            "SELECT number, user_id, item_id, time FROM events WHERE number > :after ORDER BY number LIMIT :most"
        )
        while True:
            with self.transaction() as connection:
                rows = connection.execute(query, {"after": after, "most": CHUNK_ROWS}).all()
            yield from (_to_stored_event(row) for row in rows)
            if len(rows) < CHUNK_ROWS:
                return
            after = int(rows[-1][0])

    def read_user_events(self, user: str) -> list[StoredEvent]:
        """All that is stored of a user, in order."""
        query = text("SELECT number, user_id, item_id, time FROM events WHERE user_id = :user ORDER BY number")
        with self.transaction() as connection:
            return [_to_stored_event(row) for row in connection.execute(query, {"user": user})]

    def get_position(self) -> Position:
        with self.transaction() as connection:
            return Position(*map(int, connection.execute(text("SELECT last_number, n_deletions FROM ledger")).one()))

    def read_deletions(self, after: int = 0) -> list[Deletion]:
        """Those with a larger number, in order."""
        query = text("SELECT number, since FROM deletions WHERE number > :after ORDER BY number")
        with self.transaction() as connection:
            return [Deletion(int(row[0]), int(row[1])) for row in connection.execute(query, {"after": after})]

    def delete_user(self, user: str, of_log: bool = False) -> int:
        """Forget a user: the events, their keys and, in SQLite's files, the bytes; gives the number of events.

        of_log: states begin with a log that has the user as well; `deleted_user_digests` then keeps a digest of the id,
            so that they can leave the user out whenever they read that log.

        What is left says that someone was deleted, not who, for states to be made anew (`Replica`). PostgreSQL writes
        over the bytes in time; its archived write-ahead logs, and backups of either database, are its keeper's to mind.

        Raises:
            StoreError: a reader kept SQLite's write-ahead log from being emptied; the user is deleted, and another call
            empties it.
        """
        with self.transaction(writes=True) as connection:
            allocate_numbers(connection, 0)
            since = connection.execute(text("SELECT MIN(number) FROM events WHERE user_id = :user"), {"user": user})
            first = since.scalar()
            count = connection.execute(text("DELETE FROM events WHERE user_id = :user"), {"user": user}).rowcount
            if of_log:
                first = 0  # no state that began with the log may be left
                there = "INSERT INTO forgotten VALUES (:digest) ON CONFLICT DO NOTHING"
                connection.execute(text(there), {"digest": self.digest_user(user)})
            if first is not None:
                connection.execute(text("UPDATE ledger SET n_deletions = n_deletions + 1"))
                added = "INSERT INTO deletions SELECT n_deletions, :since FROM ledger"
                connection.execute(text(added), {"since": first})
        self._erase_deleted_pages()
        return count

    def deleted_user_digests(self) -> set[str]:
        """Digests of the users whom states are to leave out of their log."""
        with self.transaction() as connection:
            return {str(row[0]) for row in connection.execute(text("SELECT digest FROM forgotten"))}

    def digest_user(self, user: str) -> str:
        return hashlib.sha256(f"{self.id}\0{user}".encode()).hexdigest()

    def close(self) -> None:
        self.engine.dispose()

    def _erase_deleted_pages(self) -> None:
        """Deleted pages are zeros in the file once they are moved there from the write-ahead log, which is emptied."""
        if self.engine.dialect.name != SQLITE:
            with self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                connection.execute(text("VACUUM events"))
            return
        with closing(self.engine.raw_connection()) as raw, closing(raw.cursor()) as cursor:
            cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            busy = cursor.fetchall()[0][0]
        if busy:
            raise StoreError("store: a reader keeps the write-ahead log from being emptied; delete the user once more")

    @contextmanager
    def transaction(self, writes: bool = False) -> Iterator[Connection]:
        """What is within is done as a whole. writes: waits for other writers first."""
        try:
            with self.engine.connect().execution_options(writes=writes) as connection, connection.begin():
                yield connection
        except DatabaseError as error:
            where = self.engine.url.render_as_string(hide_password=True)
            remedy = "send again what was not acknowledged; what has a key will not count twice"
            raise StoreError(f"store {where}: {error.orig}; {remedy}") from error


def allocate_numbers(connection: Connection, count: int) -> int:
    """The ledger's row until the commit, the numbers after its newest for oneself; gives the newest."""
    connection.execute(text("UPDATE ledger SET last_number = last_number + :count"), {"count": count})
    return int(connection.execute(text("SELECT last_number FROM ledger")).scalar_one())


def _filter_new_events(connection: Connection, events: Sequence[NewEvent]) -> list[NewEvent]:
    """Events that are not stored under their user and key, and do not come before in `events`."""
    query = text("SELECT item_id FROM events WHERE user_id = :user AND retry_key = :key")
    items: dict[tuple[str, str], str] = {}
    fresh = []
    for new in events:
        if new.key is not None:
            key = new.user, new.key
            item = items.get(key) or connection.execute(query, {"user": new.user, "key": new.key}).scalar()
            items[key] = item or new.item
            if item is not None:
                if item != new.item:
                    said = f"key {new.key!r} was given with item {item!r} before, and with {new.item!r} now"
                    raise DataError("events", [f"{said}; give each event a key of its own"])
                continue
        fresh.append(new)
    return fresh


def _check(events: Sequence[NewEvent]) -> None:
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


def _to_stored_event(row: Sequence[Any]) -> StoredEvent:
    return StoredEvent(int(row[0]), str(row[1]), str(row[2]), int(row[3]))
