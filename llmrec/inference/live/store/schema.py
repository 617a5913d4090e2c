"""The database of an event store: its connection, its tables and their migrations.

Migrations are a list of statements here, not Alembic's: there are few tables, which only grow columns, both databases
change tables within a transaction, and so a step is taken whole or not at all. Alembic would add a folder of scripts
and its settings to the package to do the same. It becomes worthwhile when a step must differ between the databases, or
must rewrite many rows.
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
BUSY_MS = 30_000  # milliseconds that a writer waits for others
MIGRATING = 7_106_353  # any number that all processes share: the lock on PostgreSQL

# A released step never changes: later changes are new steps at the end.
STEPS: tuple[Sequence[str], ...] = (
    (
        # One row, which a writer holds until the commit: numbers are in the order of commits, without a gap.
        "CREATE TABLE ledger (store_id TEXT NOT NULL, last_number BIGINT NOT NULL, n_deletions BIGINT NOT NULL)",
        "CREATE TABLE events (number BIGINT PRIMARY KEY, user_id TEXT NOT NULL, item_id TEXT NOT NULL,"
        " time BIGINT NOT NULL, retry_key TEXT)",
        "CREATE INDEX events_of_user ON events (user_id, number)",
        "CREATE UNIQUE INDEX events_once ON events (user_id, retry_key) WHERE retry_key IS NOT NULL",
        # Deletions without the user: states that have counted events from `since` on must be rebuilt.
        "CREATE TABLE deletions (number BIGINT PRIMARY KEY, since BIGINT NOT NULL)",
    ),
    (
        # Changes of the catalog; fields are JSON, and NULL except for an added item.
        "CREATE TABLE item_changes (number BIGINT PRIMARY KEY, kind TEXT NOT NULL, item_id TEXT NOT NULL, fields TEXT)",
        "CREATE UNIQUE INDEX items_added_once ON item_changes (item_id) WHERE fields IS NOT NULL",
        # Deleted users of a log, by a digest that only shows if an id is one of them.
        "CREATE TABLE forgotten (digest TEXT PRIMARY KEY)",
    ),
)


class StoreError(LlmrecError, RuntimeError):
    """Error of a database that cannot be reached, belongs to something else, or is newer than this llmrec."""


def open_engine(url: str) -> Engine:
    """Open the database at a URL.

    Args:
        url: SQLAlchemy URL, `sqlite:///state.db` or `postgresql://user@host/name`; without `://` the name of a file.

    Returns:
        The engine.

    Raises:
        ConfigError: If it is another database, one in memory, or one whose driver is not installed.
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

    # The driver's own start of transactions is turned off, or it would read before it locks.
    @event.listens_for(engine, "connect")
    def set_pragmas(connection: Any, _: object) -> None:
        connection.isolation_level = None
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")  # a commit survives a power cut
        connection.execute("PRAGMA secure_delete = ON")

    @event.listens_for(engine, "begin")
    def begin_transaction(connection: Connection) -> None:
        writes = connection.get_execution_options().get("writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    _truncate_wal(engine)
    return engine


def _truncate_wal(engine: Engine) -> None:
    """Empty the write-ahead log, which may hold rows deleted just before a crash, unless others use it."""
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
        # A writer that waited for the ledger sees the commits meanwhile; pre-ping reconnects to a restarted server.
        return create_engine(url, isolation_level="READ COMMITTED", pool_pre_ping=True)
    except (ImportError, NoSuchModuleError) as error:
        raise ConfigError(
            f"store: the driver of {url.drivername} is not installed. {missing_extra('postgres')}"
        ) from error


def migrate(connection: Connection, steps: Sequence[Sequence[str]] = STEPS) -> None:
    """Take the steps that the database has not taken yet, all or none; other processes wait.

    Args:
        connection: Connection with an open transaction.
        steps: Statements of each step.

    Raises:
        StoreError: If a newer llmrec has taken more steps than this one knows.
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
