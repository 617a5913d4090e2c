"""Slices of queries that a mean over all would hide: new items, new users, short histories."""

from __future__ import annotations

import numpy as np

from llmrec.data.histories import Queries
from llmrec.data.interactions import Mask
from llmrec.data.splits import Split

HISTORY_BUCKETS = {"0": (0, 0), "1-4": (1, 4), "5-9": (5, 9), "10-19": (10, 19), "20+": (20, np.inf)}


def make_slices(split: Split, queries: Queries) -> dict[str, Mask]:
    """Name -> (Q,) mask; empty slices are left out.

    `cold_item` and `cold_user` have no event in the training part of `split`: give the split that the evaluated
    model was fitted on (`split.refit()` after a refit). `history_*` counts the events before the query, those
    after the cut-off included, so that a cold user can have a history.
    """
    cold_item, cold_user = split.cold_items()[queries.target], split.cold_users()[queries.user]
    length = queries.end - queries.start
    slices: dict[str, Mask] = {
        "overall": np.ones(len(queries), dtype=np.bool_),
        "warm_item": ~cold_item,
        "cold_item": cold_item,
        "warm_user": ~cold_user,
        "cold_user": cold_user,
    }
    for name, (least, most) in HISTORY_BUCKETS.items():
        slices[f"history_{name}"] = (length >= least) & (length <= most)
    return {name: mask for name, mask in slices.items() if mask.any()}
