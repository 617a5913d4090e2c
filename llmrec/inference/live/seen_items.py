"""All items that each user ever interacted with, which are not recommended again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmrec.utils.arrays import Arrays, Rows, concat_ranges


class SeenItems:
    """Items by user in one table, and those that were added since the table was built.

    Attributes:
        offset: Start of each user's items in `item`, (U + 1,).
        item: Item rows by user.
    """

    def __init__(self, n_users: int) -> None:
        """Start without items.

        Args:
            n_users: Number of users, U.
        """
        self.offset: Rows = np.zeros(n_users + 1, dtype=np.int64)
        self.item: Rows = np.zeros(0, dtype=np.int64)
        self._since: dict[int, list[int]] = {}

    def __len__(self) -> int:
        return len(self.offset) - 1

    def grow_users(self, n_users: int) -> None:
        """Add users without items.

        Args:
            n_users: Number of users afterward.
        """
        self.offset = np.pad(self.offset, (0, n_users - len(self)), mode="edge")

    def insert(self, user: int, item: int) -> None:
        """Add an item of a user.

        Args:
            user: Row of the user.
            item: Row of the item.
        """
        self._since.setdefault(user, []).append(item)

    def insert_many(self, user: Rows, item: Rows) -> None:
        """Add items of users, and rebuild the table.

        Args:
            user: Rows of the users, (E,).
            item: Rows of the items, (E,).
        """
        since = [(user, item) for user, items in self._since.items() for item in items]
        new = np.array(since, dtype=np.int64).reshape(-1, 2)
        old = np.repeat(np.arange(len(self)), np.diff(self.offset))
        users = np.concatenate([old, new[:, 0], user])
        order = np.argsort(users, kind="stable")
        self.item = np.concatenate([self.item, new[:, 1], item])[order]
        self.offset = np.concatenate([[0], np.cumsum(np.bincount(users, minlength=len(self)))]).astype(np.int64)
        self._since.clear()

    def forget(self, user: int) -> None:
        """Remove all items of a user.

        Args:
            user: Row of the user.
        """
        start, end = self.offset[user], self.offset[user + 1]
        self.item = np.delete(self.item, slice(start, end))
        self.offset[user + 1 :] -= end - start
        self._since.pop(user, None)

    def list_pairs(self, users: Rows) -> tuple[Rows, Rows]:
        """List the items that users ever interacted with.

        Args:
            users: Rows, (B,); -1 for a history of no live user.

        Returns:
            Position in `users` and item row of each pair, (P,) each.
        """
        there = np.flatnonzero(users >= 0)
        users = users[there]
        start, count = self.offset[users], self.offset[users + 1] - self.offset[users]
        since = [self._since.get(user, []) for user in users.tolist()]
        position = np.concatenate([np.repeat(there, count), np.repeat(there, [len(items) for items in since])])
        item = self.item[np.repeat(start, count) + concat_ranges(count)]
        return position, np.concatenate([item, np.array([item for items in since for item in items], dtype=np.int64)])

    def export_state(self) -> Arrays:
        """Export the arrays that `restore` continues from.

        Returns:
            Arrays by name.
        """
        empty = np.zeros(0, dtype=np.int64)
        self.insert_many(empty, empty)
        return {"offset": self.offset, "item": self.item}

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Continue from exported arrays.

        Args:
            state: Result of `export_state`.

        Raises:
            ValueError: If the offsets are not ascending or do not fit the items.
        """
        offset, item = state["offset"], state["item"]
        if offset[0] != 0 or offset[-1] != len(item) or np.any(np.diff(offset) < 0):
            raise ValueError("what users have seen is not in order")
        self.offset, self.item = offset.copy(), item.copy()
        self._since.clear()
