from __future__ import annotations

import numpy as np

from llmrec.data.histories import make_queries
from llmrec.data.splits import TEST, Split
from llmrec.evaluation.slices import make_slices


def test_slices_are_those_of_a_naive_loop(split: Split) -> None:
    queries = make_queries(split, TEST)
    slices = make_slices(split, queries)
    warm_items, warm_users = set(split.train.item.tolist()), set(split.train.user.tolist())
    empty = np.zeros(len(queries), dtype=bool)
    assert slices["overall"].all()
    for q in range(len(queries)):
        assert slices.get("cold_item", empty)[q] == (queries.target[q] not in warm_items)
        assert slices.get("cold_user", empty)[q] == (queries.user[q] not in warm_users)
        length = queries.end[q] - queries.start[q]
        name = ["0", "1-4", "5-9", "10-19", "20+"][int(np.searchsorted([0, 4, 9, 19], length))]
        assert [n for n, mask in slices.items() if n.startswith("history_") and mask[q]] == [f"history_{name}"]


def test_warm_and_cold_share_out_all_queries(split: Split) -> None:
    slices = make_slices(split, make_queries(split, TEST))
    for kind in ("item", "user"):
        parts = [slices[name] for name in (f"warm_{kind}", f"cold_{kind}") if name in slices]
        assert np.array_equal(np.sum(parts, axis=0), np.ones(len(parts[0])))


def test_empty_slices_are_left_out(split: Split) -> None:
    queries = make_queries(split, TEST)
    assert all(mask.any() for mask in make_slices(split, queries).values())


def test_a_refit_warms_what_validation_saw(split: Split) -> None:
    queries = make_queries(split, TEST)
    before, after = make_slices(split, queries), make_slices(split.refit(), queries)
    newly_warm = np.isin(queries.target, split.valid.item) & ~before["warm_item"]
    assert np.array_equal(after["warm_item"], before["warm_item"] | newly_warm)
