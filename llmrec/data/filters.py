"""What may be dropped from a log by choice. Each takes events in time order, and returns new ones."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from llmrec.data.interactions import Interactions
from llmrec.utils.arrays import Rows

AT_ONCE = 1 << 20  # events of users that are looked at together: their pairs are sorted in a cache, not in memory


def drop_repeats(events: Interactions, n_items: int) -> Interactions:
    """The first event of each (user, item) pair."""
    by_user = np.argsort(events.user, kind="stable")
    offset = np.cumsum(np.bincount(events.user))
    first = np.ones(len(events), dtype=np.bool_)
    start = 0
    while start < len(events):
        end = int(offset[np.searchsorted(offset, start + AT_ONCE)]) if start + AT_ONCE < len(events) else len(events)
        which = by_user[start:end]
        pair = events.user[which] * n_items + events.item[which]
        order = np.argsort(pair, kind="stable")
        again = pair[order[1:]] == pair[order[:-1]]
        first[which[order[1:][again]]] = False
        start = end
    del by_user
    return events if first.all() else events.take(first)


def filter_k_core(events: Interactions, n_users: int, n_items: int, k: int) -> Interactions:
    """Drop users and items with fewer than k events, again and again, until none is left."""
    while len(events):
        enough_user = np.bincount(events.user, minlength=n_users) >= k
        enough_item = np.bincount(events.item, minlength=n_items) >= k
        keep = enough_user[events.user] & enough_item[events.item]
        if keep.all():
            break
        events = events.take(keep)
    return events


def renumber(events: Interactions) -> tuple[Interactions, Rows]:
    """Users numbered in the order in which they appear, and (n_users,) the old row of each."""
    encoded = pa.array(events.user).dictionary_encode()
    new = np.asarray(encoded.indices).astype(np.int64)
    return Interactions(new, events.item, events.time), np.asarray(encoded.dictionary)
