"""The database of an event store: how it is reached, and its tables with their version.

Migrations are a list of statements here, not Alembic's: there are three tables that only grow columns, both databases
change tables within a transaction, and a step is then one that is taken whole or not at all. Alembic would bring a
folder of scripts and its settings into the package to do the same. Should a step ever need to differ between the
databases, or rows to be rewritten at length, that is the time for it.
"""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Sequence
from contextlib import closing, suppress
from typing import Any

from llmrec.errors import ConfigError, LlmrecError, missing_extra

try:
    from sqlalchemy import Connection, Engine, create_engine, event, text
    from sqlalchemy.engine import URL, make_url
    from sqlalchemy.exc import ArgumentError, DatabaseError, NoSuchModuleError
except ImportError as error:
    raise ConfigError(f"store: SQLAlchemy is not installed. {missing_extra('state')}") from error

SQLITE, POSTGRES = "sqlite", "postgresql"
REMEDY = "write sqlite:///state.db, or postgresql://user@host/name"
BUSY_MS = 30_000  # that a writer waits for others
MIGRATING = 7_106_353  # any number, known to all: of the lock on PostgreSQL

# A step is never changed once it has been released: what comes later is a step of its own, at the end.
STEPS: tuple[Sequence[str], ...] = (
    (
        # One row. Who writes holds it until the commit: numbers are in the order of commits, without a gap.
        "CREATE TABLE ledger (store_id TEXT NOT NULL, last_number BIGINT NOT NULL, n_deletions BIGINT NOT NULL)",
        "CREATE TABLE events (number BIGINT PRIMARY KEY, user_id TEXT NOT NULL, item_id TEXT NOT NULL,"
        " time BIGINT NOT NULL, retry_key TEXT)",
        "CREATE INDEX events_of_user ON events (user_id, number)",
        "CREATE UNIQUE INDEX events_once ON events (user_id, retry_key) WHERE retry_key IS NOT NULL",
        # That someone was deleted, not who: states that have counted events from `since` on are to be made anew.
        "CREATE TABLE deletions (number BIGINT PRIMARY KEY, since BIGINT NOT NULL)",
    ),
    (
        # What became of the catalog; fields are JSON, and NULL but for an item that was added.
        "CREATE TABLE item_changes (number BIGINT PRIMARY KEY, kind TEXT NOT NULL, item_id TEXT NOT NULL, fields TEXT)",
        "CREATE UNIQUE INDEX items_added_once ON item_changes (item_id) WHERE fields IS NOT NULL",
        # Deleted users whom a log knows, by a digest that only tells whether an id is one of them.
        "CREATE TABLE forgotten (digest TEXT PRIMARY KEY)",
    ),
)


class StoreError(LlmrecError, RuntimeError):
    """A database that cannot be reached, belongs to something else, or is newer than this llmrec."""


def open_engine(url: str) -> Engine:
    """url: of SQLAlchemy, `sqlite:///state.db` or `postgresql://user@host/name`; without `://` the name of a file.

    Raises:
        ConfigError: another database, one in memory, or one whose driver is not installed.
    """
    try:
        parsed = make_url(url if "://" in url else f"{SQLITE}:///{url}")
    except ArgumentError as error:
        raise ConfigError(f"store={url!r} is no URL; {REMEDY}") from error
    name = parsed.get_backend_name()
    if name == SQLITE:
        return _open_sqlite(parsed)
    if name == POSTGRES:
        return _open_postgres(parsed)
    raise ConfigError(f"store: {name} is not supported; {REMEDY}")


def _open_sqlite(url: URL) -> Engine:
    if not url.database or url.database == ":memory:":
        raise ConfigError("store: a database in memory forgets; name a file, as in sqlite:///state.db")
    engine = create_engine(url, connect_args={"timeout": BUSY_MS / 1000})

    # The driver's own idea of when a transaction begins is turned off, or it would read before it locks.
    @event.listens_for(engine, "connect")
    def set_pragmas(connection: Any, _: object) -> None:
        connection.isolation_level = None
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")  # a commit outlives a power cut
        connection.execute("PRAGMA secure_delete = ON")

    @event.listens_for(engine, "begin")
    def begin_transaction(connection: Connection) -> None:
        writes = connection.get_execution_options().get("writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    _truncate_wal(engine)
    return engine


def _truncate_wal(engine: Engine) -> None:
    """What was deleted just before a crash may still be in the write-ahead log. If others use the file, let it be."""
    with (
        suppress(DatabaseError, sqlite3.Error),
        closing(engine.raw_connection()) as raw,
        closing(raw.cursor()) as cursor,
    ):
        cursor.execute("PRAGMA busy_timeout = 0")
        cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    engine.dispose()  # other connections do wait


def _open_postgres(url: URL) -> Engine:
    if url.drivername == POSTGRES:
        url = url.set(drivername=f"{POSTGRES}+psycopg")
    try:
        # Who has waited for the ledger sees what was committed meanwhile; a server that was restarted is reached again.
        return create_engine(url, isolation_level="READ COMMITTED", pool_pre_ping=True)
    except (ImportError, NoSuchModuleError) as error:
        raise ConfigError(
            f"store: the driver of {url.drivername} is not installed. {missing_extra('postgres')}"
        ) from error


def migrate(connection: Connection, steps: Sequence[Sequence[str]] = STEPS) -> None:
    """Take the steps that the database has not taken yet; nothing is done where one fails. Others wait.

    Raises:
        StoreError: a newer llmrec has taken more steps than this one knows.
    """
    if connection.dialect.name == POSTGRES:
        connection.execute(text(f"SELECT pg_advisory_xact_lock({MIGRATING})"))
    connection.execute(text("CREATE TABLE IF NOT EXISTS llmrec_version (version BIGINT NOT NULL)"))
    found = connection.execute(text("SELECT version FROM llmrec_version")).scalar()
    if found is None:
        connection.execute(text("INSERT INTO llmrec_version VALUES (0)"))
    taken = found or 0
    if taken > len(steps):
        raise StoreError(f"store: of version {taken}, and this llmrec knows {len(steps)}; update llmrec")
    for step in steps[taken:]:
        for statement in step:
            connection.execute(text(statement))
    connection.execute(text("UPDATE llmrec_version SET version = :version"), {"version": len(steps)})
    if connection.execute(text("SELECT store_id FROM ledger")).scalar() is None:
        connection.execute(text("INSERT INTO ledger VALUES (:id, 0, 0)"), {"id": uuid.uuid4().hex})
