"""States that follow a store: the same to the last bit after a restart, in other processes, without the deleted."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import signal
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.inference.live.test_online_state import HEAD, NOW, STREAM, random_events

pytest.importorskip("sqlalchemy", reason="needs SQLAlchemy (extra: state)")

from llmrec.errors import DataError
from llmrec.inference.live.buffered_counts import MAX_PENDING
from llmrec.inference.live.online_state import OnlineState
from llmrec.inference.live.replica import Replica
from llmrec.inference.live.saved_state import load_state, save_state
from llmrec.inference.live.state_file import StateError, read_state, write_state
from llmrec.inference.live.store.event_store import EventStore
from llmrec.inference.live.store.stored_events import NewEvent

EVENTS = [NewEvent(f"user-{user}", f"{item}", time) for user, item, time in random_events(MAX_PENDING + 300)]
EMPTY = replace(STREAM, n_users=0)


class Live:
    """A live state whose users have names, and rows as they come. Items are named by their rows."""

    def __init__(self) -> None:
        self.state, self.users = OnlineState(HEAD, EMPTY), dict[str, int]()

    def observe(self, user: str, item: str, time: int) -> None:
        if not item.isdecimal():
            raise DataError("live", [f"no item {item}"])
        if user not in self.users:
            self.users[user] = self.state.n_users
            self.state.add_users(1)
        self.state.observe(self.users[user], int(item), time)

    def save(self, path: Path) -> None:
        save_state(self.state, path)
        arrays, facts = read_state(path)
        names = np.frombuffer(json.dumps(self.users).encode(), np.uint8)
        write_state(path, arrays | {"users": names}, facts)

    @classmethod
    def load(cls, path: Path) -> Live:
        live = cls()
        live.state = load_state(path, HEAD, STREAM)
        live.users = json.loads(read_state(path)[0]["users"].tobytes())
        return live


def follow(url: str, folder: Path | None = None) -> Replica[Live]:
    return Replica(EventStore(url), Live, Live.load, folder=folder)


def saved(live: Live, path: Path) -> bytes:
    live.save(path)
    return path.read_bytes()


def untouched(events: list[NewEvent]) -> Live:
    """What the events alone make of a state, of which nothing else is known."""
    live = Live()
    for event in events:
        live.observe(*event[:3])
    return live


def test_a_restart_goes_on_to_the_same_bits(store_url: str, tmp_path: Path) -> None:
    first = follow(store_url, tmp_path / "snapshots")
    for start in range(0, len(EVENTS), 100):
        first.append(EVENTS[start : start + 100])
        first.state.state.counts_at(NOW)  # asked meanwhile
        if start in (200, 500):
            first.save_snapshot()
    assert len(list((tmp_path / "snapshots").iterdir())) == 2
    again = follow(store_url, tmp_path / "snapshots")
    from_nothing = follow(store_url)
    bits = [saved(live, tmp_path / "bits") for live in (first.state, again.state, from_nothing.state)]
    assert bits == [saved(untouched(EVENTS), tmp_path / "bits")] * 3
    base, users = torch.zeros(3, 9), np.arange(3)
    scores = [each.state.state.score(base, users, NOW) for each in (first, again)]
    assert torch.equal(*scores)


def test_replicas_follow_each_other(store_url: str, tmp_path: Path) -> None:
    one, other = follow(store_url), follow(store_url)
    one.append(EVENTS[:50])
    other.append(EVENTS[50:80])  # takes in the first fifty as well
    one.catch_up()
    bits = [saved(each.state, tmp_path / "bits") for each in (one, other)]
    assert bits == [saved(untouched(EVENTS[:80]), tmp_path / "bits")] * 2
    assert one.append([EVENTS[0]._replace(key="k"), EVENTS[0]._replace(key="k")])[0].number == 81
    assert one.append([EVENTS[0]._replace(key="k")]) == []
    assert one.state.state.last.item[one.state.users[EVENTS[0].user], -1] >= 0
    assert saved(one.state, tmp_path / "bits") == saved(untouched([*EVENTS[:80], EVENTS[0]]), tmp_path / "bits")


@pytest.mark.parametrize("gone", ["user-0", "late"])
def test_without_a_deleted_user_all_is_as_if_they_had_never_been(store_url: str, tmp_path: Path, gone: str) -> None:
    """late: whose events came after a snapshot, from which the state is made anew."""
    folder, late = tmp_path / "snapshots", [NewEvent("late", "1", NOW - 5), NewEvent("late", "2", NOW - 4)]
    replica, other = follow(store_url, folder), follow(store_url)
    events = [*EVENTS[:600], *late, *EVENTS[600:]]
    for start in range(0, len(events), 150):
        replica.append(events[start : start + 150])
        replica.save_snapshot()
    other.catch_up()
    kept = [event for event in events if event.user != gone]
    assert replica.delete_user(gone) == len(events) - len(kept)
    assert gone not in replica.state.users
    other.catch_up()
    expected = saved(untouched(kept), tmp_path / "bits")
    assert saved(replica.state, tmp_path / "bits") == saved(other.state, tmp_path / "bits") == expected
    assert len(list(folder.iterdir())) == (gone == "late")  # three were kept, of 450, 600 and 750 and more events
    replica.save_snapshot()
    assert saved(follow(store_url, folder).state, tmp_path / "bits") == expected
    files = [path for path in (*folder.iterdir(), *tmp_path.glob("state.db*")) if gone.encode() in path.read_bytes()]
    assert not files


def test_a_process_that_was_away_learns_of_deletions(store_url: str, tmp_path: Path) -> None:
    replica = follow(store_url, tmp_path / "away")
    replica.append(EVENTS[:30])
    replica.save_snapshot()
    (tmp_path / "away" / f"{replica.store.id}-7-0.1.partial").write_bytes(b"user-0")  # killed while it wrote
    follow(store_url).delete_user("user-0")
    again = follow(store_url, tmp_path / "away")
    assert "user-0" not in again.state.users
    assert list((tmp_path / "away").iterdir()) == []


def test_the_newest_events_are_passed_over_where_their_user_is_gone(store_url: str, tmp_path: Path) -> None:
    replica = follow(store_url)
    replica.append([*EVENTS[:5], NewEvent("last", "3", NOW)])
    replica.delete_user("last")
    replica.append([EVENTS[5]])
    assert saved(replica.state, tmp_path / "bits") == saved(untouched(EVENTS[:6]), tmp_path / "bits")


def test_what_the_state_cannot_use_is_passed_over(
    store_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    replica = follow(store_url)
    replica.append([EVENTS[0], NewEvent("user-1", "no row", 7), EVENTS[1]])
    assert "event 2 is of no use to the state" in caplog.text
    assert saved(replica.state, tmp_path / "bits") == saved(untouched(EVENTS[:2]), tmp_path / "bits")


def test_snapshots_that_cannot_be_loaded_are_passed_over(store_url: str, tmp_path: Path) -> None:
    replica = follow(store_url, tmp_path / "snapshots")
    replica.append(EVENTS[:10])
    replica.save_snapshot()
    replica.append(EVENTS[10:20])
    newest = replica.save_snapshot()
    assert newest is not None
    newest.write_bytes(newest.read_bytes()[:-9])
    with pytest.raises(StateError):
        Live.load(newest)
    again = follow(store_url, tmp_path / "snapshots")
    assert saved(again.state, tmp_path / "bits") == saved(untouched(EVENTS[:20]), tmp_path / "bits")


def test_snapshots_of_another_store_are_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "snapshots"
    for name in ("one.db", "other.db"):
        replica = follow(str(tmp_path / name), folder)
        assert replica.state.users == {}
        replica.append(EVENTS[:5])
        replica.save_snapshot()
    assert len(list(folder.iterdir())) == 2


def write(url: str, folder: Path, said: Connection) -> None:
    replica = follow(url, folder)
    for place, event in enumerate(EVENTS):
        replica.append([event._replace(key=str(place))])
        said.send(place)
        if place % 5 == 0:
            replica.save_snapshot()


def test_after_a_kill_the_state_is_that_of_the_stored_events(store_url: str, tmp_path: Path) -> None:
    folder, fork = tmp_path / "snapshots", multiprocessing.get_context("fork")
    heard, said = fork.Pipe(duplex=False)
    process = fork.Process(target=write, args=(store_url, folder, said))
    process.start()
    said.close()
    acknowledged = [heard.recv() for _ in range(23)]
    process.kill()
    with contextlib.suppress(EOFError):
        while True:
            acknowledged.append(heard.recv())
    process.join()
    assert process.exitcode == -signal.SIGKILL
    again = follow(store_url, folder)
    stored = len(list(again.store.read_events()))
    assert len(acknowledged) <= stored <= len(acknowledged) + 1
    assert saved(again.state, tmp_path / "bits") == saved(untouched(EVENTS[:stored]), tmp_path / "bits")
