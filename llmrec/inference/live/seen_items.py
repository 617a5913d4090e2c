"""Everything that each user ever touched: what is not recommended to them again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmrec.utils.arrays import Arrays, Rows, concat_ranges


class SeenItems:
    """Items by user, in one table, and beside it those that came since it was made."""

    def __init__(self, n_users: int) -> None:
        self.offset: Rows = np.zeros(n_users + 1, dtype=np.int64)
        self.item: Rows = np.zeros(0, dtype=np.int64)
        self._since: dict[int, list[int]] = {}

    def __len__(self) -> int:
        return len(self.offset) - 1

    def grow_users(self, n_users: int) -> None:
        """Make room for `n_users` users, those there are among them."""
        self.offset = np.pad(self.offset, (0, n_users - len(self)), mode="edge")

    def insert(self, user: int, item: int) -> None:
        self._since.setdefault(user, []).append(item)

    def insert_many(self, user: Rows, item: Rows) -> None:
        """Events (E,)."""
        since = [(user, item) for user, items in self._since.items() for item in items]
        new = np.array(since, dtype=np.int64).reshape(-1, 2)
        old = np.repeat(np.arange(len(self)), np.diff(self.offset))
        users = np.concatenate([old, new[:, 0], user])
        order = np.argsort(users, kind="stable")
        self.item = np.concatenate([self.item, new[:, 1], item])[order]
        self.offset = np.concatenate([[0], np.cumsum(np.bincount(users, minlength=len(self)))]).astype(np.int64)
        self._since.clear()

    def forget(self, user: int) -> None:
        """Leave nothing of a user."""
        start, end = self.offset[user], self.offset[user + 1]
        self.item = np.delete(self.item, slice(start, end))
        self.offset[user + 1 :] -= end - start
        self._since.pop(user, None)

    def list_pairs(self, users: Rows) -> tuple[Rows, Rows]:
        """(place in `users`, item row) of everything that users (B,) touched."""
        start, count = self.offset[users], self.offset[users + 1] - self.offset[users]
        since = [self._since.get(user, []) for user in users.tolist()]
        everyone = np.arange(len(users))
        position = np.concatenate([np.repeat(everyone, count), np.repeat(everyone, [len(items) for items in since])])
        item = self.item[np.repeat(start, count) + concat_ranges(count)]
        return position, np.concatenate([item, np.array([item for items in since for item in items], dtype=np.int64)])

    def export_state(self) -> Arrays:
        """What `restore` goes on from."""
        nobody = np.zeros(0, dtype=np.int64)
        self.insert_many(nobody, nobody)
        return {"offset": self.offset, "item": self.item}

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """
        Raises:
            ValueError: items that lie nowhere, or offsets that are none.
        """
        offset, item = state["offset"], state["item"]
        if offset[0] != 0 or offset[-1] != len(item) or np.any(np.diff(offset) < 0):
            raise ValueError("what users have seen is not in order")
        self.offset, self.item = offset.copy(), item.copy()
        self._since.clear()
