"""Splits: every event in one part, borders where they should be, cold things marked, inputs untouched."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmrec.config.split import SplitConfig
from llmrec.data.histories import make_queries
from llmrec.data.interactions import Interactions, Ties
from llmrec.data.splits import (
    HIDDEN,
    TEST,
    TRAIN,
    UNUSED,
    VALID,
    Split,
    draw_new_items,
    hold_out_items,
    leave_one_out,
    make_split,
    split_by_time,
)
from llmrec.errors import ConfigError, DataError

N_USERS, N_ITEMS = 5, 7


def log_of(events: list[tuple[int, int, int]]) -> Interactions:
    """(user, item, time) events as a sorted log that nobody can write to."""
    columns = [np.array(column, dtype=np.int64) for column in zip(*events, strict=True)]
    log = Interactions.sort(*columns)
    for column in (log.user, log.item, log.time):
        column.setflags(write=False)
    return log


events = st.tuples(st.integers(0, N_USERS - 1), st.integers(0, N_ITEMS - 1), st.integers(0, 30))
logs = st.lists(events, min_size=3, max_size=60).map(log_of)


def assert_partition(split: Split) -> None:
    assert sorted(np.unique(split.part)) == [TRAIN, VALID, TEST]
    assert len(split.train) + len(split.valid) + len(split.test) == len(split.interactions)


@settings(deadline=None)
@given(logs, st.floats(0.05, 0.4), st.floats(0.05, 0.4))
def test_by_time_parts_follow_each_other(log: Interactions, valid: float, test: float) -> None:
    try:
        split = split_by_time(log, N_USERS, N_ITEMS, valid_fraction=valid, test_fraction=test)
    except DataError:
        return  # too few distinct times
    assert_partition(split)
    assert split.train.time.max() < split.valid_start == split.valid.time.min()
    assert split.valid.time.max() < split.test_start == split.test.time.min()
    assert len(split.test) >= len(log) * test - 1


def test_by_time_borders_and_counts() -> None:
    split = split_by_time(log_of([(0, 0, t) for t in range(100, 110)]), 1, 1, valid_fraction=0.2, test_fraction=0.1)
    assert (len(split.train), len(split.valid), len(split.test)) == (7, 2, 1)
    assert (split.valid_start, split.test_start) == (107, 109)


def test_by_time_keeps_events_of_one_time_together() -> None:
    split = split_by_time(
        log_of([(0, 0, t) for t in (1, 1, 2, 2, 3, 3, 3, 3, 3, 4)]), 1, 1, valid_fraction=0.2, test_fraction=0.1
    )
    assert split.valid.time.tolist() == [3, 3, 3, 3, 3]


@pytest.mark.parametrize(("valid", "test"), [(0, 0.1), (0.1, 0), (0.5, 0.5), (-0.1, 0.3), (float("nan"), 0.1)])
def test_by_time_refuses_fractions(valid: float, test: float) -> None:
    with pytest.raises(ConfigError, match="valid_fraction"):
        split_by_time(log_of([(0, 0, t) for t in range(10)]), 1, 1, valid_fraction=valid, test_fraction=test)


@pytest.mark.parametrize("times", [[1, 2], [5] * 10])
def test_by_time_refuses_logs_that_cannot_have_three_parts(times: list[int]) -> None:
    with pytest.raises(DataError):
        split_by_time(log_of([(0, 0, t) for t in times]), 1, 1)


@settings(deadline=None)
@given(logs)
def test_leave_one_out_takes_the_last_two_of_each_user(log: Interactions) -> None:
    try:
        split = leave_one_out(log, N_USERS, N_ITEMS)
    except DataError:
        assert np.bincount(log.user).max() < 3
        return
    assert_partition(split)
    for user in range(N_USERS):
        part = split.part[log.user == user].tolist()
        expected = [VALID, TEST] if len(part) >= 3 else [TRAIN] * min(len(part), 2)
        assert part[-2:] == expected
        assert set(part[:-2]) <= {TRAIN}


def test_leave_one_out_follows_the_order_of_the_log_within_one_time() -> None:
    split = leave_one_out(log_of([(0, item, 1) for item in (4, 2, 6, 1)]), 1, N_ITEMS)
    assert (split.train.item.tolist(), split.valid.item.tolist(), split.test.item.tolist()) == ([4, 2], [6], [1])


def test_cold_items_and_users_are_kept_and_marked() -> None:
    log = log_of(
        [(0, 0, 1), (0, 1, 2), (1, 0, 3), (1, 1, 4), (0, 2, 5), (2, 0, 6), (0, 0, 7), (0, 1, 8), (2, 3, 9), (2, 0, 9)]
    )
    split = split_by_time(log, 3, 5, valid_fraction=0.2, test_fraction=0.2)
    assert split.cold_item_mask().tolist() == [False, False, False, True, True]
    assert split.cold_user_mask().tolist() == [False, False, False]
    assert split_by_time(log, 3, 5, valid_fraction=0.3, test_fraction=0.2).cold_user_mask().tolist() == [
        False,
        False,
        True,
    ]
    assert split.test.item.tolist() == [3, 0]


def test_refit_gives_the_validation_part_to_training_and_leaves_the_split_alone() -> None:
    split = split_by_time(log_of([(0, t % 3, t) for t in range(10)]), 1, 3)
    before = split.part.copy()
    refit = split.merge_validation()
    assert (len(refit.train), len(refit.valid), len(refit.test)) == (9, 0, 1)
    assert refit.valid_start == refit.test_start == split.test_start
    np.testing.assert_array_equal(split.part, before)


def test_a_thinned_split_learns_from_some_users_and_changes_nothing_else() -> None:
    rng = np.random.default_rng(0)
    log = log_of([(int(u), int(i), int(t)) for u, i, t in rng.integers(0, [200, N_ITEMS, 1000], (3000, 3))])
    split = split_by_time(log, 200, N_ITEMS)
    thin = split.subsample_users(0.3)
    kept = np.unique(thin.train.user)
    assert 0.2 < len(kept) / 200 < 0.4
    dropped = thin.part == UNUSED
    assert not np.isin(log.user[dropped], kept).any()
    assert (split.part[dropped] == TRAIN).all()
    np.testing.assert_array_equal(thin.part[~dropped], split.part[~dropped])
    np.testing.assert_array_equal(split.subsample_users(1.0).part, split.part)
    asked, fewer = make_queries(split, TEST), make_queries(thin, TEST)
    np.testing.assert_array_equal(asked.end - asked.start, fewer.end - fewer.start)  # histories are as long as before


def test_make_split_follows_the_configuration() -> None:
    log = log_of([(0, t % 3, t) for t in range(20)])
    config = SplitConfig(valid_fraction=0.2, test_fraction=0.3, ties="strict", leave_one_out_ties="file_order")
    by_time, ties = make_split("by_time", log, 1, 3, config=config)
    assert (by_time.name, len(by_time.valid), len(by_time.test), ties) == ("by_time", 4, 6, "strict")
    left_out, ties = make_split("leave_one_out", log, 1, 3, config=config)
    assert (left_out.name, len(left_out.test), ties) == ("leave_one_out", 1, "file_order")


def test_users_are_held_out_of_training_as_configured() -> None:
    log = log_of([(t % 40, t % 7, t) for t in range(400)])
    whole, held = (
        make_split("by_time", log, 40, 7, config=SplitConfig(held_out_user_fraction=share))[0] for share in (0.0, 0.25)
    )
    assert len(np.unique(whole.train.user)) == 40
    assert 20 < len(np.unique(held.train.user)) < 40
    np.testing.assert_array_equal(held.test.item, whole.test.item)


ITEM_COLD_SHARES = st.tuples(st.floats(0.1, 0.5), st.floats(0.1, 0.4))


@settings(deadline=None)
@given(logs, ITEM_COLD_SHARES, st.integers(1, 4), st.integers(0, 50))
def test_item_cold_keeps_new_items_out_of_everything_before_their_queries(
    log: Interactions, shares: tuple[float, float], n_last: int, seed: int
) -> None:
    config = SplitConfig(
        item_cold_fraction=shares[0], item_cold_valid_fraction=shares[1], item_cold_last_events=n_last, seed=seed
    )
    try:
        split = hold_out_items(log, N_USERS, N_ITEMS, config=config)
    except DataError:
        return  # a part would be empty
    new_test, new_valid = draw_new_items(N_ITEMS, config)
    assert not (new_test & new_valid).any()
    assert not (new_test | new_valid)[split.train.item].any()
    assert not new_test[split.valid.item].any()
    assert not split.cold_item_mask()[split.test.item[~new_test[split.test.item]]].any()
    assert not split.cold_item_mask()[split.valid.item[~new_valid[split.valid.item]]].any()
    for queries, new in ((split.valid.item, new_valid), (split.test.item, new_test)):
        assert (~new[queries]).sum() <= new[queries].sum()  # all new ones, and at most as many warm ones
    for user in range(N_USERS):
        part = split.part[log.user == user]
        targets = np.flatnonzero(np.isin(part, (VALID, TEST)))
        if len(targets):
            assert targets[0] >= len(part) - n_last
            assert not (part[targets[0] :] == TRAIN).any()
        if (part == TEST).any():
            assert not (part[np.argmax(part == TEST) :] == VALID).any()


@settings(deadline=None)
@given(logs, st.integers(0, 50), st.sampled_from(["strict", "file_order"]))
def test_item_cold_histories_and_counts_over_time_show_training_events_alone(
    log: Interactions, seed: int, ties: Ties
) -> None:
    try:
        split = hold_out_items(log, N_USERS, N_ITEMS, config=SplitConfig(item_cold_fraction=0.4, seed=seed))
    except DataError:
        return  # a part would be empty
    train = split.train
    np.testing.assert_array_equal(split.visible.item, train.item)
    for part in (VALID, TEST):
        queries = make_queries(split, part, ties=ties)
        assert len(queries) == (split.part == part).sum()
        for row in range(len(queries)):
            shown = queries.histories.item[queries.start[row] : queries.end[row]]
            own = train.user == queries.user[row]
            if ties == "strict":
                own &= train.time < queries.time[row]
            assert shown.tolist() == train.item[own].tolist()


def test_item_cold_by_hand() -> None:
    config = SplitConfig(item_cold_fraction=0.2, item_cold_valid_fraction=0.2, item_cold_last_events=2, seed=1)
    assert [np.flatnonzero(new).tolist() for new in draw_new_items(6, config)] == [[2], [4]]
    parts = {  # 5 is only in tails, so it is not warm; 4 comes after a test query of the last user
        (0, 1, 2, 3, 2): "train train hidden test test",
        (1, 0, 4, 5): "train train valid hidden",
        (3, 4, 5, 5): "train hidden hidden hidden",
        (0, 2): "train hidden",
        (2, 4, 2): "hidden hidden hidden",
        (0, 2, 4): "train test hidden",
    }
    events = [(user, item, 9 * place) for user, items in enumerate(parts) for place, item in enumerate(items)]
    log = log_of(events)
    split = hold_out_items(log, len(parts), 6, config=config)
    names = {TRAIN: "train", VALID: "valid", TEST: "test", HIDDEN: "hidden"}
    found = [" ".join(names[part] for part in split.part[log.user == user]) for user in range(len(parts))]
    assert found == list(parts.values())
    assert (split.valid_start, split.test_start) == (18, 9)
    queries = make_queries(split, TEST)
    histories = [queries.histories.item[a:b].tolist() for a, b in zip(queries.start, queries.end, strict=True)]
    assert dict(zip(zip(queries.user.tolist(), queries.target.tolist(), strict=True), histories, strict=True)) == {
        (5, 2): [0],
        (0, 3): [0, 1],
        (0, 2): [0, 1],
    }


def test_item_cold_draws_by_its_own_seed_alone_and_appended_items_change_nothing() -> None:
    first, more, other = (draw_new_items(n, SplitConfig(seed=seed)) for n, seed in ((500, 0), (600, 0), (500, 1)))
    for few, many, rest in zip(first, more, other, strict=True):
        np.testing.assert_array_equal(few, many[:500])
        assert (few != rest).any()
    assert 0.15 < first[0].mean() < 0.25
    assert 0.05 < first[1].mean() < 0.15


def test_item_cold_refuses_logs_and_shares_that_leave_a_part_empty() -> None:
    with pytest.raises(DataError, match="item_cold_fraction"):
        hold_out_items(log_of([(0, t % 3, t) for t in range(3)]), 1, 3, config=SplitConfig())
    with pytest.raises(ConfigError, match="below 1"):
        SplitConfig(item_cold_fraction=0.6, item_cold_valid_fraction=0.4)
