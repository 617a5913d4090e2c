"""What may be dropped from a log by choice. Each takes events in time order, and returns new ones."""

from __future__ import annotations

import numpy as np

from llmrec.data.interactions import Interactions, Rows


def first_of_pairs(events: Interactions, n_items: int) -> Interactions:
    """The first event of each (user, item) pair."""
    first = np.unique(events.user * n_items + events.item, return_index=True)[1]
    return events.take(np.sort(first))


def k_core(events: Interactions, n_users: int, n_items: int, k: int) -> Interactions:
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
    old, first, inverse = np.unique(events.user, return_index=True, return_inverse=True)
    by_appearance = np.argsort(first)
    new = np.empty_like(by_appearance)
    new[by_appearance] = np.arange(len(by_appearance))
    return Interactions(new[inverse].astype(np.int64), events.item, events.time), old[by_appearance]
