"""What became of a catalog since its bundle was saved: items added, removed and restored, in the store of events.

Kept there so that an added item outlives a restart, and so that all processes which share the store have it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from llmrec.errors import DataError
from llmrec.inference.live.store.event_store import EventStore, allocate_numbers

from sqlalchemy import text  # isort: skip  (store_schema tells how to install it)

ChangeKind = Literal["added", "removed", "restored"]


class ItemChange(NamedTuple):
    """number: from 1, in order. fields: of an item that was added, its id among them."""

    number: int
    kind: str
    item: str
    fields: dict[str, Any] | None


class ItemStore:
    """Changes of one catalog. id_column: where an item's fields have its id."""

    def __init__(self, store: EventStore, id_column: str) -> None:
        self.store, self.id_column = store, id_column

    def add(self, items: Sequence[Mapping[str, object]]) -> None:
        """Keep new items, all or none.

        Raises:
            DataError: an id that was added before. StoreError: nothing is kept.
        """
        self._append([("added", str(item[self.id_column]), json.dumps(dict(item))) for item in items])

    def mark(self, kind: Literal["removed", "restored"], items: Sequence[str]) -> None:
        """Keep that items were removed, or restored; raises StoreError."""
        self._append([(kind, item, None) for item in items])

    def read_changes(self, after: int = 0) -> list[ItemChange]:
        """Those with a larger number, in order."""
        query = text("SELECT number, kind, item_id, fields FROM item_changes WHERE number > :after ORDER BY number")
        with self.store.transaction() as connection:
            rows = connection.execute(query, {"after": after}).all()
        return [ItemChange(int(row[0]), row[1], row[2], None if row[3] is None else json.loads(row[3])) for row in rows]

    def _append(self, changes: Sequence[tuple[ChangeKind, str, str | None]]) -> None:
        there = text("SELECT item_id FROM item_changes WHERE item_id = :item AND fields IS NOT NULL")
        with self.store.transaction(writes=True) as connection:
            allocate_numbers(
                connection, 0
            )  # of writers to either table one at a time, so that numbers are in order of commits
            newest = int(connection.execute(text("SELECT COALESCE(MAX(number), 0) FROM item_changes")).scalar_one())
            new = [item for _, item, fields in changes if fields is not None]
            if taken := [item for item in new if connection.execute(there, {"item": item}).scalar() is not None]:
                raise DataError("new items", [f"{item!r} was added before; give another id" for item in taken])
            rows = [
                {"number": newest + position, "kind": kind, "item": item, "fields": fields}
                for position, (kind, item, fields) in enumerate(changes, start=1)
            ]
            if rows:
                connection.execute(text("INSERT INTO item_changes VALUES (:number, :kind, :item, :fields)"), rows)
