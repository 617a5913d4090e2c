"""What becomes of a catalog is kept in order, once, and users of a log can be left out of it for good."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

pytest.importorskip("sqlalchemy", reason="needs SQLAlchemy (extra: state)")

from llmrec.errors import DataError
from llmrec.inference.live.store.event_store import EventStore
from llmrec.inference.live.store.item_store import ItemStore
from llmrec.inference.live.store.stored_events import Deletion, NewEvent


def test_changes_come_in_order_to_whoever_looks(store_url: str) -> None:
    here, there = (ItemStore(EventStore(store_url), "id") for _ in range(2))
    assert here.read_changes() == []
    new = [{"id": "a", "title": "Ä \u0001 'quoted'", "year": 2031, "genres": ["x", "y"]}, {"id": "b", "title": None}]
    here.add(new)
    there.mark("removed", ["a"])
    here.mark("restored", ["a"])
    found = there.read_changes()
    assert [(one.number, one.kind, one.item) for one in found] == [
        (1, "added", "a"),
        (2, "added", "b"),
        (3, "removed", "a"),
        (4, "restored", "a"),
    ]
    assert [one.fields for one in found[:2]] == new
    assert [one.number for one in here.read_changes(after=2)] == [3, 4]


def test_an_item_is_added_once_whoever_adds_it(store_url: str) -> None:
    stores = [ItemStore(EventStore(store_url), "id") for _ in range(4)]

    def add(store: ItemStore) -> bool:
        try:
            store.add([{"id": "a"}, {"id": f"{id(store)}"}])
        except DataError:
            return False
        return True

    with ThreadPoolExecutor() as threads:
        assert sum(threads.map(add, stores)) == 1
    assert len(stores[0].read_changes()) == 2


def test_a_user_of_the_log_is_kept_out_by_a_digest_that_no_other_store_has(store_url: str) -> None:
    store = EventStore(store_url)
    store.append([NewEvent("lovelace", "a", 5), NewEvent("bob", "a", 6)])
    assert store.deleted_user_digests() == set()
    assert store.delete_user("lovelace", of_log=True) == 1
    assert store.delete_user("eve", of_log=True) == 0
    assert store.deleted_user_digests() == {store.digest_user("lovelace"), store.digest_user("eve")}
    assert "lovelace" not in "".join(store.deleted_user_digests())
    assert store.read_deletions() == [Deletion(1, 0), Deletion(2, 0)]  # nothing that knew the log may be left
    assert store.delete_user("bob") == 1
    assert store.read_deletions()[-1] == Deletion(3, 2)
    assert len(store.deleted_user_digests()) == 2
