from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from llmrec.config.split import SplitName
from llmrec.data.histories import make_queries
from llmrec.data.interactions import Interactions
from llmrec.data.splits import TEST, Split
from llmrec.evaluation.slices import make_slices

DAY = 86_400


def tiny(events: Sequence[tuple[int, int, float, int]], name: SplitName = "by_time") -> Split:
    """Events of (user, item, day, part) in order of time; the test starts on day 100."""
    user, item, days, part = map(np.array, zip(*events, strict=True))
    log = Interactions(user, item, (days * DAY).astype(np.int64))
    return Split(name, log, part.astype(np.int8), user.max() + 1, item.max() + 1, 90 * DAY, 100 * DAY)


def members(split: Split, prefix: str, text: torch.Tensor | None = None) -> dict[str, list[int]]:
    """Query rows by name, of the slices that start with `prefix`."""
    slices = make_slices(split, make_queries(split, TEST), text=text)
    return {name: np.flatnonzero(mask).tolist() for name, mask in slices.items() if name.startswith(prefix)}


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
    before, after = make_slices(split, queries), make_slices(split.merge_validation(), queries)
    newly_warm = np.isin(queries.target, split.valid.item) & ~before["warm_item"]
    assert np.array_equal(after["warm_item"], before["warm_item"] | newly_warm)


CUTOFF = [(0, 0, 100, TEST), (0, 1, 113.9, TEST), (0, 2, 114, TEST), (0, 3, 130, TEST), (0, 4, 190, TEST)]


def test_days_since_the_cutoff_by_hand() -> None:
    split = tiny(CUTOFF)
    assert members(split, "first_14_days") == {"first_14_days": [0, 1]}
    assert members(split, "days_since_cutoff") == {
        "days_since_cutoff_14-29": [2],
        "days_since_cutoff_30-89": [3],
        "days_since_cutoff_90+": [4],
    }
    assert not members(tiny(CUTOFF[:1]), "days_since_cutoff_14")  # empty ones are left out


def test_a_log_without_times_has_no_slices_by_time() -> None:
    split = tiny(CUTOFF, "leave_one_out")
    queries = make_queries(split, TEST)
    names, timed = set(make_slices(split, queries, has_times=False)), set(make_slices(split, queries))
    assert {name.partition("_")[0] for name in timed - names} == {"gap", "item"}
    assert {"overall", "cold_item", "cold_user"} <= names


def test_leave_one_out_has_no_cutoff() -> None:
    split = tiny(CUTOFF, "leave_one_out")
    assert not {**members(split, "first_14_days"), **members(split, "days_since")}
    assert members(split, "gap_")
    assert members(split, "item_age_")


def test_gaps_are_calendar_days_since_the_last_event() -> None:
    """An hour across midnight is another day; an event of the same moment is in no history."""
    days = [100.5, 100.6, 101.01, 107.0, 114, 144, 234, 234]
    split = tiny([(0, place, day, TEST) for place, day in enumerate(days)])
    assert members(split, "gap_") == {
        "gap_same_day": [1],
        "gap_1-6": [2, 3],
        "gap_7-29": [4],
        "gap_30-89": [5],
        "gap_90+": [6, 7],
    }


def test_an_items_age_counts_from_its_first_event_in_any_part() -> None:
    before = [(0, 0, 0, 0), (1, 1, 90, 1)]
    first, later = [(0, 2, 100, TEST), (1, 2, 100, TEST)], [(2, 2, 129.9, TEST), (2, 1, 130, TEST)]
    split = tiny([*before, *first, *later, (3, 0, 130, TEST), (3, 0, 200, TEST)])
    assert members(split, "item_age_") == {
        "item_age_new": [0, 1],  # both on the item's first moment
        "item_age_0-29": [2],
        "item_age_30-179": [3, 4],
        "item_age_180+": [5],
    }


TEXT = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])


def test_interest_moves_from_the_early_to_the_late_half() -> None:
    """User 0 stays, user 1 turns by 90 degrees (its fifth event is in the late half), user 2 turns around."""
    histories = [[0, 0, 0, 0], [0, 0, 1, 1, 1], [0, 0, 2, 2], [0, 0, 2]]
    past = [(user, item, 10 * place + 5, 0) for user, items in enumerate(histories) for place, item in enumerate(items)]
    split = tiny([*sorted(past, key=lambda event: event[2]), *((user, 0, 100 + user, TEST) for user in range(4))])
    assert members(split, "interest_", TEXT) == {
        "interest_steady": [0],
        "interest_shifting": [1],
        "interest_moved": [2],
    }
    assert not members(split, "interest_")  # without text
    assert not members(tiny(CUTOFF[:2]), "interest_", TEXT)  # without histories


@pytest.mark.parametrize("at_once", [1, 7, 4096])
def test_interest_is_that_of_a_naive_loop(split: Split, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmrec.evaluation.slices._QUERIES_AT_ONCE", at_once)
    text = torch.randn(split.n_items, 5, generator=torch.Generator().manual_seed(0))
    queries = make_queries(split, TEST)
    moved = {}
    for q in range(len(queries)):
        items = queries.histories.item[queries.start[q] : queries.end[q]]
        if len(items) >= 4:
            halves = text[items[: len(items) // 2]].mean(0), text[items[len(items) // 2 :]].mean(0)
            moved[q] = 1 - float(torch.cosine_similarity(*halves, dim=0))
    least_first, third = sorted(moved, key=moved.__getitem__), len(moved) // 3
    found = members(split, "interest_", text)
    assert set(least_first[:third]) <= set(found["interest_steady"])
    assert set(least_first[-third:]) <= set(found["interest_moved"])
    assert sorted(q for rows in found.values() for q in rows) == sorted(moved)
