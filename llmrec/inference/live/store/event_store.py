"""Events of live users in a database: SQLite in one file, or PostgreSQL by its URL.

Events are numbered from 1 in the order of their commits: a writer first takes the ledger's one row and holds it until
its commit. So a reader up to a number has missed none below it, which a sequence does not ensure: there number 5 can be
seen before number 4 is committed. It also gives all processes the same order of events.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager

from llmrec.errors import DataError
from llmrec.inference.live.store.schema import SQLITE, StoreError, migrate, open_engine
from llmrec.inference.live.store.stored_events import (
    Deletion,
    NewEvent,
    Position,
    StoredEvent,
    check_events,
)

from sqlalchemy import Connection, text  # isort: skip  (schema explains how to install it)
from sqlalchemy.exc import DatabaseError  # isort: skip

CHUNK_ROWS = 10_000  # events that are read in one statement


class EventStore:
    """Event store; threads may share it, and each process opens its own.

    Attributes:
        engine: Database engine.
        id: Id of the store, which snapshots carry.
    """

    def __init__(self, url: str) -> None:
        """Open a store, and create or migrate it if needed.

        Args:
            url: SQLAlchemy URL of SQLite or PostgreSQL, or the name of a SQLite file.

        Raises:
            ConfigError: If the URL cannot be used.
            StoreError: If there is no database, or one of a newer llmrec.
        """
        self.engine = open_engine(url)
        with self.transaction(writes=True) as connection:
            migrate(connection)
            self.id = str(connection.execute(text("SELECT store_id FROM ledger")).scalar_one())

    def append(self, events: Sequence[NewEvent]) -> list[StoredEvent]:
        """Store events, all or none, and skip those whose key is stored already.

        Once this returns they are committed: no crash of a process, and no loss of power if the disk writes what it
        confirms, can lose them.

        Args:
            events: Events in order of arrival.

        Returns:
            The events that were not stored before, with their numbers.

        Raises:
            DataError: If an id is empty or too long, a time invalid, or a key was used for another item.
            StoreError: If the database cannot be written; then nothing is stored.
        """
        check_events(events)
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
        """Read the events after a number, in order, with no transaction open between two of them.

        Args:
            after: Number of the last known event.

        Yields:
            Events.

        Raises:
            StoreError: If the database cannot be read.
        """
        query = text(
            "SELECT number, user_id, item_id, time FROM events WHERE number > :after ORDER BY number LIMIT :most"
        )
        while True:
            with self.transaction() as connection:
                rows = connection.execute(query, {"after": after, "most": CHUNK_ROWS}).all()
            yield from (StoredEvent.from_row(row) for row in rows)
            if len(rows) < CHUNK_ROWS:
                return
            after = int(rows[-1][0])

    def read_user_events(self, user: str) -> list[StoredEvent]:
        """Read all events of a user, in order.

        Args:
            user: The user's id, or pseudonym.

        Returns:
            The events.

        Raises:
            StoreError: If the database cannot be read.
        """
        query = text("SELECT number, user_id, item_id, time FROM events WHERE user_id = :user ORDER BY number")
        with self.transaction() as connection:
            return [StoredEvent.from_row(row) for row in connection.execute(query, {"user": user})]

    def get_position(self) -> Position:
        """Return the position of the store.

        Returns:
            The number of the newest event and of deletions.

        Raises:
            StoreError: If the database cannot be read.
        """
        with self.transaction() as connection:
            return Position(*map(int, connection.execute(text("SELECT last_number, n_deletions FROM ledger")).one()))

    def read_deletions(self, after: int = 0) -> list[Deletion]:
        """Read the deletions after a number, in order.

        Args:
            after: Number of the last known deletion.

        Returns:
            The deletions.

        Raises:
            StoreError: If the database cannot be read.
        """
        query = text("SELECT number, since FROM deletions WHERE number > :after ORDER BY number")
        with self.transaction() as connection:
            return [Deletion(int(row[0]), int(row[1])) for row in connection.execute(query, {"after": after})]

    def delete_user(self, user: str, *, of_log: bool = False) -> int:
        """Delete the events of a user, their keys and, in SQLite's files, the bytes.

        The remaining record shows that some user was deleted, but not which, so that states are rebuilt (`Replica`).
        PostgreSQL overwrites the bytes in time; its archived write-ahead logs, and backups of either database, are up
        to the operator.

        Args:
            user: The user's id, or pseudonym.
            of_log: True if states start with a log that has the user too; `deleted_user_digests` then keeps a digest of
                the id, so that they can leave the user out whenever they read that log.

        Returns:
            Number of events that the store had of the user.

        Raises:
            StoreError: If the database cannot be written, or a reader kept SQLite's write-ahead log from being emptied;
                then the user is deleted, and another call empties it.
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
        """Return the digests of the users that states must leave out of their log.

        Returns:
            Results of `digest_user`.

        Raises:
            StoreError: If the database cannot be read.
        """
        with self.transaction() as connection:
            return {str(row[0]) for row in connection.execute(text("SELECT digest FROM forgotten"))}

    def digest_user(self, user: str) -> str:
        """Compute the digest of a user's id, which differs between stores.

        Args:
            user: The user's id, or pseudonym.

        Returns:
            SHA-256 as hexadecimal digits.
        """
        return hashlib.sha256(f"{self.id}\0{user}".encode()).hexdigest()

    def close(self) -> None:
        """Close the connections to the database."""
        self.engine.dispose()

    def _erase_deleted_pages(self) -> None:
        """Erase deleted rows: move SQLite's zeroed pages from the write-ahead log to the file."""
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
    def transaction(self, *, writes: bool = False) -> Iterator[Connection]:
        """Run statements in one transaction.

        Args:
            writes: Wait for other writers first.

        Yields:
            Connection with the open transaction.

        Raises:
            StoreError: If the database reports an error; then nothing has changed.
        """
        try:
            with self.engine.connect().execution_options(writes=writes) as connection, connection.begin():
                yield connection
        except DatabaseError as error:
            where = self.engine.url.render_as_string(hide_password=True)
            remedy = "send again what was not acknowledged; what has a key will not count twice"
            raise StoreError(f"store {where}: {error.orig}; {remedy}") from error


def allocate_numbers(connection: Connection, count: int) -> int:
    """Take the ledger's row until the commit, and reserve numbers after its newest.

    Args:
        connection: Connection with an open transaction.
        count: Numbers to reserve.

    Returns:
        The newest number.
    """
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
