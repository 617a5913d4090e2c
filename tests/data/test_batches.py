"""Windows ask every target exactly once, of a state that has seen exactly its history."""

from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llmrec.data import batches
from llmrec.data.batches import build_epoch_batches, build_training_windows, collate_queries, collate_windows
from llmrec.data.histories import make_queries
from llmrec.data.interactions import Interactions, Ties
from llmrec.data.splits import TEST, leave_one_out

events = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 9), st.integers(0, 12)), min_size=1, max_size=60)


def log_of(rows: list[tuple[int, int, int]]) -> Interactions:
    user, item, time = (np.array(column, dtype=np.int64) for column in zip(*rows, strict=True))
    return Interactions.sort(user, item, time * 86_400)


def questions(log: Interactions, max_history: int, ties: Ties) -> list[tuple[tuple[int, ...], int]]:
    """(seen items, target) of every question in the windows, read off one batch of all of them."""
    windows = build_training_windows(log, 5, max_history, ties)
    batch = collate_windows(windows, np.arange(len(windows)), query_time_known=True)
    states = batch.history.shape[1] + 1
    asked = []
    for source, target in zip(batch.source.tolist(), batch.target.tolist(), strict=True):
        row, seen = divmod(source, states)
        assert batch.history_mask[row, :seen].all()
        asked.append((tuple(batch.history[row, :seen].tolist()), target))
        assert (batch.event_time[row, :seen] <= batch.query_time[row, seen]).all()
    return asked


@given(events, st.sampled_from(["strict", "file_order"]), st.integers(1, 8), st.sampled_from([1, 10, 1000]))
@settings(max_examples=60, deadline=None)
def test_each_target_is_asked_once_with_a_suffix_of_its_history(
    rows: list[tuple[int, int, int]], ties: Ties, max_history: int, at_once: int
) -> None:
    log = log_of(rows)
    expected = []
    for user in range(5):
        mine = np.flatnonzero(log.user == user)
        for place, event in enumerate(mine):
            before = mine[:place] if ties == "file_order" else mine[log.time[mine] < log.time[event]]
            expected.append((tuple(log.item[before].tolist()), int(log.item[event])))
    with patch.object(batches, "CHUNK_ROWS", at_once):
        asked = questions(log, max_history, ties)
    assert len(asked) == len(expected)
    for (seen, target), (history, wanted) in zip(asked, expected, strict=True):
        assert target == wanted
        assert len(seen) <= max_history
        assert seen == history[len(history) - len(seen) :]
        assert bool(seen) == bool(history)  # a state without events is asked only where there is no history


def test_newest_window_is_full() -> None:
    log = log_of([(0, item, item) for item in range(8)])
    assert questions(log, 3, "file_order")[-1] == ((4, 5, 6), 7)


def test_batches_hold_every_window_once_and_about_as_many_targets() -> None:
    rng = np.random.default_rng(0)
    log = log_of([(int(u), int(i), int(t)) for u, i, t in rng.integers(0, [5, 10, 40], size=(300, 3))])
    windows = build_training_windows(log, 5, 4, "file_order")
    drawn = build_epoch_batches(windows, 16, np.random.default_rng(1))
    assert sorted(np.concatenate(drawn)) == list(range(len(windows)))
    assert max(windows.n_targets[rows].sum() for rows in drawn) < 16 + windows.n_targets.max()


def test_thinned_windows_ask_for_some_of_their_targets() -> None:
    rng = np.random.default_rng(0)
    log = log_of([(int(u), int(i), int(t)) for u, i, t in rng.integers(0, [5, 10, 40], size=(300, 3))])
    windows = build_training_windows(log, 5, 4, "strict")
    thin, other = (windows.subsample_targets(2, np.random.default_rng(seed)) for seed in (0, 1))
    assert thin.n_targets.tolist() == np.minimum(windows.n_targets, 2).tolist()
    assert not np.array_equal(thin.target, other.target)
    for row in range(len(windows)):
        asked, all_asked = (collate_windows(each, np.array([row]), query_time_known=True) for each in (thin, windows))
        assert torch.equal(asked.history, all_asked.history)
        every = list(zip(all_asked.source.tolist(), all_asked.target.tolist(), strict=True))
        some = list(zip(asked.source.tolist(), asked.target.tolist(), strict=True))
        assert all(some.count(one) <= every.count(one) for one in some)


@pytest.mark.parametrize("known", [True, False])
def test_query_batch_asks_the_newest_state(known: bool) -> None:
    log = log_of([(0, 1, 1), (0, 2, 2), (0, 3, 5), (1, 4, 1), (1, 5, 2), (1, 6, 9)])
    queries = make_queries(leave_one_out(log, 2, 10), TEST)
    batch = collate_queries(queries, 5, query_time_known=known)
    assert batch.history.tolist() == [[1, 2], [4, 5]]
    assert batch.source.tolist() == [2, 5]
    asked_at = batch.query_time.flatten()[batch.source] / 86_400
    assert torch.equal(asked_at, torch.tensor([5.0, 9.0] if known else [2.0, 2.0]))


def test_queries_read_a_single_state_of_each_history() -> None:
    log = log_of([(0, 1, 0), (0, 2, 1), (0, 3, 2), (1, 4, 0), (1, 5, 1), (1, 6, 2), (1, 7, 3)])
    batch = collate_queries(make_queries(leave_one_out(log, 5, 10), TEST), 8, query_time_known=False)
    assert torch.equal(batch.find_single_states(), batch.history_mask.sum(1))  # type: ignore[arg-type]
    assert batch._replace(source=batch.source.flip(0)).find_single_states() is None
    assert batch._replace(source=batch.source[:1]).find_single_states() is None
