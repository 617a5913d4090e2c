"""On SQLite and on PostgreSQL: what was acknowledged is there, once, in one order, until its user is deleted."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

pytest.importorskip("sqlalchemy", reason="needs SQLAlchemy (extra: state)")

from sqlalchemy import text

from llmrec.errors import ConfigError, DataError
from llmrec.inference.live.store.event_store import EventStore
from llmrec.inference.live.store.schema import STEPS, StoreError, migrate
from llmrec.inference.live.store.stored_events import Deletion, NewEvent, Position, StoredEvent

ROOT = Path(__file__).resolve().parents[4]
WRITER = """
import sys
from llmrec.inference.live.store.event_store import EventStore
from llmrec.inference.live.store.stored_events import NewEvent
store, name = EventStore(sys.argv[1]), sys.argv[2]
for place in range(int(sys.argv[3])):
    [stored] = store.append([NewEvent(name, f"{name}-{place}", place, str(place))])
    print(stored.number, stored.item, flush=True)
"""


@pytest.fixture
def store(store_url: str) -> EventStore:
    return EventStore(store_url)


def writer(url: str, name: str, count: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, url, name, str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)


def test_events_are_numbered_in_order(store: EventStore, store_url: str) -> None:
    assert store.append([NewEvent("ann", "i1", 10), NewEvent("böb", "i2", 5)]) == [
        StoredEvent(1, "ann", "i1", 10),
        StoredEvent(2, "böb", "i2", 5),
    ]
    assert store.append([]) == []
    store.append([NewEvent("ann", "i1", 10)])  # once more, and without a key: it counts
    store.close()
    again = EventStore(store_url)
    assert again.id == store.id
    assert [event.number for event in again.read_events()] == [1, 2, 3]
    assert list(again.read_events(after=2)) == again.read_user_events("ann")[1:] == [StoredEvent(3, "ann", "i1", 10)]
    assert again.get_position() == Position(3, 0)


def test_many_are_read_in_parts(store: EventStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.append([NewEvent("ann", f"i{place}", place) for place in range(10)])
    for at_once in (3, 5, 10, 11):
        monkeypatch.setattr("llmrec.inference.live.store.event_store.CHUNK_ROWS", at_once)
        assert [event.item for event in store.read_events()] == [f"i{place}" for place in range(10)]


def test_a_retry_counts_once(store: EventStore) -> None:
    first = NewEvent("ann", "i1", 10, "k")
    assert len(store.append([first, first, NewEvent("bob", "i1", 10, "k")])) == 2  # a key is its user's
    assert store.append([first._replace(time=11)]) == []  # a server that gives the time gives another one
    with pytest.raises(DataError, match="key 'k' was given with item 'i1' before, and with 'i2' now; give each"):
        store.append([NewEvent("ann", "i3", 12), first._replace(item="i2")])
    assert [event.user for event in store.read_events()] == ["ann", "bob"]
    assert store.get_position().number == 2


@pytest.mark.parametrize(
    ("event", "message"),
    [
        (NewEvent("", "i", 1), "user '': give 1 to 512 characters"),
        (NewEvent("u", "i" * 513, 1), "item 'i+': give"),
        (NewEvent("u\0", "i", 1), "none of them NUL"),
        (NewEvent("u", "\ud800", 1), "item"),
        (NewEvent("u", "i", 1, ""), "key ''"),
        (NewEvent("u", "i", -1), "time -1: give seconds since 1970"),
        (NewEvent("u", "i", 10**12), "not milliseconds"),
    ],
)
def test_what_cannot_be_an_event_stores_nothing(store: EventStore, event: NewEvent, message: str) -> None:
    with pytest.raises(DataError, match=message):
        store.append([NewEvent("u", "i", 1), event])
    assert list(store.read_events()) == []


@pytest.mark.parametrize("kills", [2])
def test_a_killed_process_takes_no_acknowledged_event_along(store_url: str, kills: int) -> None:
    acknowledged = []
    for kill in range(kills):
        process = writer(store_url, f"writer{kill}", 100_000)
        assert process.stdout is not None
        acknowledged += [process.stdout.readline().split() for _ in range(20)]
        process.send_signal(signal.SIGKILL)
        acknowledged += [line.split() for line in process.stdout if line.endswith("\n")]
        assert process.wait() == -signal.SIGKILL
        there = [[str(event.number), event.item] for event in EventStore(store_url).read_events()]
        assert [event for event in there if event in acknowledged] == acknowledged
        assert len(there) <= len(acknowledged) + kill + 1  # at most one was stored and not acknowledged


def test_a_killed_server_takes_no_acknowledged_event_along(request: pytest.FixtureRequest) -> None:
    postgres = request.getfixturevalue("postgres")
    store = EventStore(postgres.new_database())
    for place in range(20):
        store.append([NewEvent("ann", f"i{place}", place)])
    postgres.stop("immediate")
    with pytest.raises(StoreError, match="what has a key will not count twice"):
        store.append([NewEvent("ann", "i20", 20)])
    postgres.start()
    assert [event.item for event in store.read_events()] == [f"i{place}" for place in range(20)]


def test_writers_in_threads_and_processes_leave_one_order_that_no_reader_misses(store_url: str) -> None:
    each = 30
    processes = [writer(store_url, f"process{place}", each) for place in range(2)]  # one of them makes the tables
    store, done, followed = EventStore(store_url), threading.Event(), list[int]()

    def write(name: str) -> None:
        for place in range(each):
            store.append([NewEvent(name, f"{name}-{place}", place)])

    def follow() -> None:
        last = False
        while not last:
            last = done.is_set()
            followed.extend([event.number for event in store.read_events(followed[-1] if followed else 0)])

    threads = [threading.Thread(target=write, args=(f"thread{place}",)) for place in range(3)]
    reader = threading.Thread(target=follow)
    for thread in (reader, *threads):
        thread.start()
    for thread in threads:
        thread.join()
    for process in processes:
        process.communicate()
        assert process.returncode == 0
    done.set()
    reader.join()
    events = list(store.read_events())
    assert followed == [event.number for event in events] == list(range(1, 5 * each + 1))
    for name in ("thread0", "thread1", "thread2", "process0", "process1"):
        assert [event.item for event in events if event.user == name] == [f"{name}-{place}" for place in range(each)]


def test_a_deleted_user_is_gone(store: EventStore) -> None:
    store.append([NewEvent(user, "i1", 1, "once") for user in ("ann", "the-deleted", "bob", "the-deleted2")])
    store.append([NewEvent("the-deleted", "i2", 2)])
    assert store.delete_user("the-deleted") == 2
    assert [event.number for event in store.read_events()] == [1, 3, 4]
    assert (store.read_user_events("the-deleted"), store.get_position(), store.read_deletions()) == (
        [],
        (5, 1),
        [Deletion(1, 2)],
    )
    assert store.delete_user("the-deleted") == store.delete_user("never there") == 0
    assert store.get_position().n_deletions == 1
    assert store.append([NewEvent("the-deleted", "i1", 9, "once")])[0].number == 6  # who comes back is new


def test_no_byte_of_a_deleted_user_stays_in_the_files(tmp_path: Path) -> None:
    store, reader = (EventStore(str(tmp_path / "state.db")) for _ in range(2))
    users = [f"user-{place * 7919 % 1000:04d}" for place in range(6000)]
    for start in range(0, len(users), 50):  # many commits, so that pages are split again and again
        store.append([NewEvent(user, "i", 1, f"{user}'s {start}") for user in users[start : start + 50]])
    assert reader.get_position().number == 6000
    files = [path for path in tmp_path.iterdir() if b"user-0123" in path.read_bytes()]
    assert files
    assert store.delete_user("user-0123") == 6
    assert not [path for path in tmp_path.iterdir() if b"user-0123" in path.read_bytes()]
    assert all(b"user-0124" in path.read_bytes() for path in files if path.suffix == ".db")


def test_nor_after_a_crash_before_they_were_wiped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, crashed = EventStore(str(tmp_path / "state.db")), tmp_path / "crashed"
    store.append([NewEvent("ann", "i", 1), NewEvent("bob", "i", 1)])
    monkeypatch.setattr(EventStore, "_erase_deleted_pages", lambda _: None)
    store.delete_user("ann")
    crashed.mkdir()
    for path in tmp_path.glob("state.db*"):
        shutil.copy(path, crashed)
    assert any(b"ann" in path.read_bytes() for path in crashed.iterdir())
    again = EventStore(str(crashed / "state.db"))
    assert [event.user for event in again.read_events()] == ["bob"]
    assert not any(b"ann" in path.read_bytes() for path in crashed.iterdir())


def test_a_log_that_cannot_be_emptied_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmrec.inference.live.store.schema.BUSY_MS", 50)
    store, reader = (EventStore(str(tmp_path / "state.db")) for _ in range(2))
    store.append([NewEvent("ann", "i", 1)])
    with reader.engine.connect() as connection:
        connection.execute(text("SELECT * FROM events")).all()  # a transaction that stays open
        with pytest.raises(StoreError, match="delete the user once more"):
            store.delete_user("ann")
    assert store.delete_user("ann") == 0
    assert not [path for path in tmp_path.iterdir() if b"ann" in path.read_bytes()]


def test_migrations_keep_what_is_there(store: EventStore, store_url: str) -> None:
    store.append([NewEvent("ann", "i1", 10)])
    step = ("ALTER TABLE events ADD COLUMN weight BIGINT", "UPDATE events SET weight = 7")
    with pytest.raises(Exception, match="nowhere"), store.engine.execution_options(writes=True).begin() as connection:
        migrate(connection, (*STEPS, (*step, "UPDATE nowhere SET weight = 7")))
    for _ in range(2):  # the second time there is nothing to do
        with store.engine.execution_options(writes=True).begin() as connection:
            migrate(connection, (*STEPS, step))
    with store.engine.begin() as connection:
        row = connection.execute(text("SELECT user_id, weight FROM events")).one()
    assert tuple(row) == ("ann", 7)
    with pytest.raises(StoreError, match=f"of version {len(STEPS) + 1}, and this llmrec knows {len(STEPS)}; update"):
        EventStore(store_url)


def test_places_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    for url in ("sqlite://", ":memory:", "sqlite:///:memory:"):
        with pytest.raises(ConfigError, match="name a file"):
            EventStore(url)
    with pytest.raises(ConfigError, match="mysql is not supported; write sqlite"):
        EventStore("mysql://somewhere/db")
    with pytest.raises(ConfigError, match="is no URL"):
        EventStore("://")
    with pytest.raises(StoreError, match="unable to open"):
        EventStore(str(tmp_path / "no folder" / "state.db"))
    (tmp_path / "other").write_bytes(b"not a database, but something else" * 100)
    with pytest.raises(StoreError, match="not a database"):
        EventStore(str(tmp_path / "other"))
    pytest.importorskip("psycopg")
    with pytest.raises(StoreError) as raised:
        EventStore(f"postgresql://me:secret@/db?host={tmp_path}")
    assert "secret" not in str(raised.value)
