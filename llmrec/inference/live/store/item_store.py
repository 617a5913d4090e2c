"""Changes of a catalog since its bundle was saved, in the event store: added, removed, restored items.

There an added item survives a restart and reaches all processes that share the store.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from llmrec.errors import DataError
from llmrec.inference.live.store.event_store import EventStore, allocate_numbers

from sqlalchemy import text  # isort: skip  (schema explains how to install it)

ChangeKind = Literal["added", "removed", "restored"]


class ItemChange(NamedTuple):
    """A change of the catalog."""

    number: int
    """Number from 1 in order."""
    kind: str
    """"added", "removed" or "restored"."""
    item: str
    """Id of the item."""
    fields: dict[str, Any] | None
    """Fields of an added item, its id among them; None for other changes."""


class ItemStore:
    """Stored changes of one catalog.

    Attributes:
        store: Event store with the database.
        id_column: Field of an item that has its id.
    """

    def __init__(self, store: EventStore, id_column: str) -> None:
        """Use the tables of an event store.

        Args:
            store: Event store with the database.
            id_column: Field of an item that has its id.
        """
        self.store, self.id_column = store, id_column

    def add(self, items: Sequence[Mapping[str, object]]) -> None:
        """Store new items, all or none.

        Args:
            items: Fields of each item, its id among them.

        Raises:
            DataError: If an id was added before.
            StoreError: If the database cannot be written; then nothing is stored.
        """
        self._append([("added", str(item[self.id_column]), json.dumps(dict(item))) for item in items])

    def mark(self, kind: Literal["removed", "restored"], items: Sequence[str]) -> None:
        """Store that items were removed or restored.

        Args:
            kind: "removed" or "restored".
            items: Ids of the items.

        Raises:
            StoreError: If the database cannot be written.
        """
        self._append([(kind, item, None) for item in items])

    def read_changes(self, after: int = 0) -> list[ItemChange]:
        """Read the changes after a number, in order.

        Args:
            after: Number of the last known change.

        Returns:
            The changes.

        Raises:
            StoreError: If the database cannot be read.
        """
        query = text("SELECT number, kind, item_id, fields FROM item_changes WHERE number > :after ORDER BY number")
        with self.store.transaction() as connection:
            rows = connection.execute(query, {"after": after}).all()
        return [ItemChange(int(row[0]), row[1], row[2], None if row[3] is None else json.loads(row[3])) for row in rows]

    def _append(self, changes: Sequence[tuple[ChangeKind, str, str | None]]) -> None:
        there = text("SELECT item_id FROM item_changes WHERE item_id = :item AND fields IS NOT NULL")
        with self.store.transaction(writes=True) as connection:
            allocate_numbers(
                connection, 0
            )  # one writer to either table at a time, so that numbers are in order of commits
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
