"""Items that users already had: where they stand in a history, and how often items are taken again."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from llmrec.data.histories import Queries
from llmrec.data.interactions import Interactions
from llmrec.utils.arrays import Rows, concat_ranges


class SeenPairs(NamedTuple):
    """P distinct pairs of a query and an item of its history, by query and item."""

    query: Rows
    """Query rows, (P,)."""
    item: Rows
    """Item rows, (P,)."""
    gap: Rows
    """Steps back to the item's last event, 1 for the newest event, and at most `most`, (P,)."""
    n_events: Rows
    """Events of the item among the last `most`, at least 1, (P,)."""


def list_seen(queries: Queries, most: int, *, older: tuple[Rows, Rows] | None = None) -> SeenPairs:
    """List the items of histories with their last position and count.

    Events before the last `most` of a history count as one event that is `most` steps back, so that a history that was
    cut there gives the same pairs.

    Args:
        queries: Queries, B of them.
        most: Events of a history that are distinguished.
        older: Further (query row, item row) pairs of items taken at some time in the past.

    Returns:
        The pairs.
    """
    lengths = queries.end - queries.start
    query, item = queries.list_seen_pairs()
    gap = np.repeat(lengths, lengths) - concat_ranges(lengths)
    if older is not None:
        query, item = np.concatenate([query, older[0]]), np.concatenate([item, older[1]])
        gap = np.concatenate([gap, np.full(len(older[0]), most + 1)])
    order = np.lexsort((gap, item, query))
    query, item, gap = query[order], item[order], gap[order]
    first = np.ones(len(query), dtype=np.bool_)
    first[1:] = (np.diff(query) != 0) | (np.diff(item) != 0)
    begins = np.flatnonzero(first)
    count = np.add.reduceat((gap <= most).astype(np.int64), begins) if len(begins) else begins
    return SeenPairs(query[begins], item[begins], np.minimum(gap[begins], most), np.maximum(count, 1))


def count_repeats(interactions: Interactions, n_items: int) -> tuple[Rows, Rows]:
    """Count the events of each item, and those by users who had it before.

    Args:
        interactions: Events.
        n_items: Number of items of the catalog, N.

    Returns:
        Numbers of events and of repeats, (N,) each.
    """
    events = np.bincount(interactions.item, minlength=n_items)
    pairs = np.unique(interactions.user * n_items + interactions.item)
    return events, events - np.bincount(pairs % n_items, minlength=n_items)
