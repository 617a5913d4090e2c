"""Held-out items: who is asked about them, and a ranking by hand."""

import numpy as np
import pytest
import torch

from llmrec.config.adaptation import ItemAdaptConfig
from llmrec.data.interactions import Interactions
from llmrec.data.splits import TEST, Split
from llmrec.data.synthetic_log import make_synthetic_log
from llmrec.errors import DataError
from llmrec.training.item_adaptation.held_out_items import HeldOutItems

CONFIG = ItemAdaptConfig(held_out_fraction=0.2)


def make_split(user: list[int], item: list[int], part: list[int] | None = None) -> Split:
    n = len(user)
    events = Interactions(np.array(user), np.array(item), np.arange(n, dtype=np.int64))
    parts = np.array(part or [0] * n, dtype=np.int8)
    return Split("by_time", events, parts, max(user) + 1, max(item) + 1, n, n)


def test_queries_are_training_events_of_held_out_items_with_other_items_before() -> None:
    log = make_synthetic_log(n_users=60, n_items=80, events_per_user=7)[0]
    rng = np.random.default_rng(0)
    part = np.where(rng.random(len(log.interactions)) < 0.2, TEST, 0).astype(np.int8)
    split = Split("by_time", log.interactions, part, log.n_users, log.n_items, 0, 0)
    found = HeldOutItems.from_split(split, CONFIG, seed=0)
    assert set(np.flatnonzero(found.held)) == set(found.items)
    assert set(found.items) <= set(split.train.item)
    expected = []
    for user in range(log.n_users):
        own = split.train.item[split.train.user == user]
        for place, target in enumerate(own):
            before = [item for item in own[:place][::-1] if not found.held[item]][:5]
            if found.held[target] and before:
                expected.append((*before, *[-1] * (5 - len(before)), target))
    asked = [(*history, found.items[target]) for history, target in zip(found.history, found.target, strict=True)]
    assert sorted(asked) == sorted(expected)


def test_a_ranking_by_hand() -> None:
    held = np.array([False, False, True, True])
    vectors = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.1], [0.0, 1.0]])
    one = HeldOutItems(held, np.array([2, 3]), np.array([[0, -1, -1, -1, -1], [1, 0, -1, -1, -1]]), np.array([0, 0]))
    # Item 0 is nearest to item 2: rank 1. Item 1, then .8 of item 0, are nearer to item 3: rank 2.
    assert one.measure(lambda rows: vectors[rows]) == pytest.approx((1 + 1 / np.log2(3)) / 2)


def test_a_log_without_such_queries_is_named() -> None:
    split = make_split([0, 1, 2], [0, 1, 2])
    with pytest.raises(DataError, match="no history leads to a held-out item"):
        HeldOutItems.from_split(split, CONFIG, seed=0)
