"""Slices of queries that a mean over all would hide: new items, new users, short histories, and when it is asked."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from llmrec.data.histories import Queries
from llmrec.data.splits import Split
from llmrec.evaluation.strata import Buckets, by_cutoff, by_gap, by_interest, by_item_age, in_buckets
from llmrec.utils.arrays import Mask

HISTORY_BUCKETS: Buckets = {"0": (0, 0), "1-4": (1, 4), "5-9": (5, 9), "10-19": (10, 19), "20+": (20, np.inf)}


def make_slices(split: Split, queries: Queries, text: Tensor | None = None) -> dict[str, Mask]:
    """Name -> (Q,) mask; empty slices are left out.

    `cold_item` and `cold_user` have no event in the training part of `split`: give the split that the evaluated
    model was fitted on (`split.refit()` after a refit). `history_*` counts the events before the query, those
    after the cut-off included, so that a cold user can have a history. The rest is in `strata`; only a split by time
    has a cut-off to count days from.

    text: (N, D) of the catalog; without it nobody can say how far interest moved.
    """
    slices = {"overall": np.ones(len(queries), dtype=np.bool_)} | _warm_and_cold(split, queries)
    slices |= in_buckets("history", queries.end - queries.start, HISTORY_BUCKETS)
    if split.name == "by_time":
        slices |= by_cutoff(queries, split.test_start)
    slices |= by_gap(queries) | by_item_age(queries, split.interactions)
    if text is not None:
        slices |= by_interest(queries, text)
    return {name: mask for name, mask in slices.items() if mask.any()}


def _warm_and_cold(split: Split, queries: Queries) -> dict[str, Mask]:
    cold_item, cold_user = split.cold_items()[queries.target], split.cold_users()[queries.user]
    return {"warm_item": ~cold_item, "cold_item": cold_item, "warm_user": ~cold_user, "cold_user": cold_user}
