"""Pairs of items that follow each other in a user's events, for contrastive training."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from llmrec.data.histories import Histories
from llmrec.data.interactions import Interactions
from llmrec.utils.arrays import Mask, Rows


@dataclass(frozen=True, slots=True)
class ItemPairs:
    """P pairs of items."""

    item: Rows
    """Catalog rows, (P, 2), the item of the earlier event first."""
    time: Rows
    """Time of the later event in seconds, (P,)."""
    user: Rows
    """User row of each pair, (P,)."""

    def __len__(self) -> int:
        return len(self.time)

    def take(self, which: Rows | Mask) -> ItemPairs:
        """Select some of the pairs.

        Args:
            which: Rows, or a mask, (P,).

        Returns:
            The selected pairs.
        """
        return ItemPairs(self.item[which], self.time[which], self.user[which])


def build_item_pairs(events: Interactions, n_users: int, window: int) -> ItemPairs:
    """Pair each event of a user with each of the next `window` events; pairs of equal items are left out.

    Args:
        events: Events in time order.
        n_users: Number of users.
        window: Number of following events to pair with.

    Returns:
        The pairs.
    """
    histories = Histories.from_interactions(events, n_users)
    user, earlier, later = histories.user, [], []
    for lag in range(1, window + 1):
        start = np.flatnonzero(user[:-lag] == user[lag:])
        earlier.append(start)
        later.append(start + lag)
    one, other = np.concatenate(earlier), np.concatenate(later)
    item = np.stack([histories.item[one], histories.item[other]], axis=1)  # (P, 2)
    distinct = item[:, 0] != item[:, 1]
    return ItemPairs(item[distinct], histories.time[other][distinct], user[other][distinct])


def split_pairs(pairs: ItemPairs, share: float) -> tuple[ItemPairs, ItemPairs]:
    """Split pairs at a moment so that about `share` of them end at it or later.

    Args:
        pairs: Pairs of items.
        share: Share of the later part, 0 to 1.

    Returns:
        Earlier and later pairs; pairs that end at the same time stay together.
    """
    if not len(pairs):
        return pairs, pairs
    cut = np.sort(pairs.time)[int(len(pairs) * (1 - share))]
    return pairs.take(pairs.time < cut), pairs.take(pairs.time >= cut)
