"""Optional filters of a log; each takes events in time order and returns new ones."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from llmrec.data.interactions import Interactions
from llmrec.utils.arrays import Rows

CHUNK_ROWS = 1 << 20  # events that are filtered at a time: their pairs are sorted in the cache, not in memory


def drop_repeats(events: Interactions, n_items: int) -> Interactions:
    """Keep the first event of each (user, item) pair.

    Args:
        events: Events in time order, E of them.
        n_items: Number of items of the catalog.

    Returns:
        The remaining events; the same object if there are no repeats.
    """
    by_user = np.argsort(events.user, kind="stable")
    offset = np.cumsum(np.bincount(events.user))
    first = np.ones(len(events), dtype=np.bool_)
    start = 0
    while start < len(events):
        end = (
            int(offset[np.searchsorted(offset, start + CHUNK_ROWS)])
            if start + CHUNK_ROWS < len(events)
            else len(events)
        )
        which = by_user[start:end]
        pair = events.user[which] * n_items + events.item[which]
        order = np.argsort(pair, kind="stable")
        again = pair[order[1:]] == pair[order[:-1]]
        first[which[order[1:][again]]] = False
        start = end
    del by_user
    return events if first.all() else events.take(first)


def filter_k_core(events: Interactions, n_users: int, n_items: int, k: int) -> Interactions:
    """Drop users and items with fewer than k events until none are left.

    Args:
        events: Events in time order.
        n_users: Number of users.
        n_items: Number of items of the catalog.
        k: Minimum number of events of a user and of an item.

    Returns:
        The remaining events.
    """
    while len(events):
        enough_user = np.bincount(events.user, minlength=n_users) >= k
        enough_item = np.bincount(events.item, minlength=n_items) >= k
        keep = enough_user[events.user] & enough_item[events.item]
        if keep.all():
            break
        events = events.take(keep)
    return events


def renumber(events: Interactions) -> tuple[Interactions, Rows]:
    """Number users in the order in which they appear.

    Args:
        events: Events in time order.

    Returns:
        The events with new user rows, and the old row of each user, (n_users,).
    """
    encoded = pa.array(events.user).dictionary_encode()
    new = np.asarray(encoded.indices).astype(np.int64)
    return Interactions(new, events.item, events.time), np.asarray(encoded.dictionary)
