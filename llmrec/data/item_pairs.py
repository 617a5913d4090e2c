"""Items that follow each other in one user's events: the pairs that a contrast pulls together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from llmrec.data.histories import Histories
from llmrec.data.interactions import Interactions
from llmrec.utils.arrays import Mask, Rows


@dataclass(frozen=True, slots=True)
class ItemPairs:
    """P pairs. item: (P, 2) catalog rows, the earlier event's first; time: (P,) seconds of the later event."""

    item: Rows
    time: Rows

    def __len__(self) -> int:
        return len(self.time)

    def take(self, which: Rows | Mask) -> ItemPairs:
        return ItemPairs(self.item[which], self.time[which])


def build_item_pairs(events: Interactions, n_users: int, window: int) -> ItemPairs:
    """Every event of a user with each of the `window` that come next; an item is no pair of its own."""
    histories = Histories.from_interactions(events, n_users)
    user, earlier, later = histories.user, [], []
    for lag in range(1, window + 1):
        start = np.flatnonzero(user[:-lag] == user[lag:])
        earlier.append(start)
        later.append(start + lag)
    one, other = np.concatenate(earlier), np.concatenate(later)
    item = np.stack([histories.item[one], histories.item[other]], axis=1)  # (P, 2)
    distinct = item[:, 0] != item[:, 1]
    return ItemPairs(item[distinct], histories.time[other][distinct])


def split_pairs(pairs: ItemPairs, share: float) -> tuple[ItemPairs, ItemPairs]:
    """Pairs before a moment, and those that end at it or later, about `share` of all; one time's stay together."""
    if not len(pairs):
        return pairs, pairs
    cut = np.sort(pairs.time)[int(len(pairs) * (1 - share))]
    return pairs.take(pairs.time < cut), pairs.take(pairs.time >= cut)
