from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from llmrec.data.histories import Queries, make_queries
from llmrec.data.interactions import Interactions
from llmrec.data.splits import TEST, VALID, Split
from llmrec.errors import ConfigError
from llmrec.evaluation.baselines import ItemKNN, ItemKNNSettings, StreamingItemKNN, StreamingSettings, Tuning
from llmrec.evaluation.baselines import cooccurrence as pairs_module
from llmrec.evaluation.baselines.cooccurrence import CooccurrenceCounts, FirstInteractions

DAY = 86_400


def tiny(user: list[int], item: list[int], days: list[float], n_items: int) -> Split:
    """All of it is training but the last two events."""
    part = np.zeros(len(user), dtype=np.int8)
    part[-2:] = VALID, TEST
    time = (np.array(days) * DAY).astype(np.int64)
    log = Interactions(np.array(user), np.array(item), time)
    return Split("by_time", log, part, max(user) + 1, n_items, int(time[-2]), int(time[-1]))


def by_hand(log: Interactions, n_users: int, n_items: int, now: int, half_life_days: float | None) -> np.ndarray:
    """(N, N) of the formula: cells of first touches before `now`; n_i on the diagonal."""
    cells = np.zeros((n_users, n_items))
    for user, item, time in zip(log.user, log.item, log.time, strict=True):
        if time < now and cells[user, item] == 0:
            cells[user, item] = 1.0 if half_life_days is None else 2 ** (-(now - time) / DAY / half_life_days / 2)
    return np.asarray(cells.T @ cells)


def counted(counts: CooccurrenceCounts) -> np.ndarray:
    """n_ij without the diagonal, and n_i on it."""
    return np.asarray(counts.get_rows(np.arange(counts.n_items)).toarray() + np.diag(counts.item_counts()))


@pytest.mark.parametrize("settings", [(100, 10.0, 1.0), (5, 0.0, 0.7), (1000, 30.0, 1.0)])
def test_with_all_counted_before_it_equals_item_knn(split: Split, settings: tuple[int, float, float]) -> None:
    """Of a log whose last day is asked about alone, the two know the same."""
    log = split.interactions
    last_day = log.time // DAY == log.time[-1] // DAY
    frozen = replace(split, part=np.where(last_day, TEST, 0).astype(np.int8))
    queries = make_queries(frozen, TEST)
    streaming = StreamingItemKNN.fit(frozen, StreamingSettings(*settings)).score(queries)
    assert torch.allclose(streaming, ItemKNN.fit(frozen, ItemKNNSettings(*settings)).score(queries), atol=1e-6)
    assert streaming.any()


@pytest.mark.parametrize("half_life_days", [None, 20.0])
def test_counting_day_by_day_is_counting_from_scratch(split: Split, half_life_days: float | None) -> None:
    log = split.interactions
    touches = FirstInteractions.from_log(log, split.n_users, split.n_items)
    going = CooccurrenceCounts(touches, split.n_items, half_life_days=half_life_days)
    for moment in range(0, int(log.time[-1]), 3 * DAY):
        going.count_until(moment)
        scratch = CooccurrenceCounts(touches, split.n_items, half_life_days=half_life_days)
        scratch.count_until(moment)
        expected = by_hand(log, split.n_users, split.n_items, moment, half_life_days)
        assert np.allclose(counted(going), counted(scratch), rtol=1e-5)
        assert np.allclose(counted(going), expected, rtol=1e-5)
    assert 1 < len(going._tables) < 10


@pytest.mark.parametrize("settings", [StreamingSettings(), StreamingSettings(half_life_days=20.0)])
def test_scores_do_not_depend_on_how_queries_are_batched(split: Split, settings: StreamingSettings) -> None:
    queries = make_queries(split, TEST)
    model = StreamingItemKNN.fit(split, settings)
    whole = model.score(queries)
    for _ in range(2):  # the second sweep starts before the first one's end
        shares = [model.score(queries.take(slice(start, start + 7))) for start in range(0, len(queries), 7)]
        assert torch.allclose(torch.cat(shares), whole, atol=1e-6)


def test_a_query_sees_nothing_of_its_own_day_from_others(split: Split) -> None:
    """Others' events of the day are exchanged for other items: the scores stay; a day later they do not."""
    log = split.interactions
    queries = make_queries(split, TEST)
    today = queries.time[len(queries) // 2] // DAY
    item = np.where(log.time // DAY == today, (log.item + 7) % split.n_items, log.item)
    changed = replace(split, interactions=Interactions(log.user, item, log.time))
    asked = np.flatnonzero(queries.time // DAY == today)

    def scores(part: Split, which: np.ndarray) -> torch.Tensor:
        told = make_queries(part, TEST)
        same_history = Queries(queries.histories, told.user, told.time, told.target, queries.start, queries.end)
        return StreamingItemKNN.fit(part).score(same_history.take(which))

    assert torch.equal(scores(split, asked), scores(changed, asked))
    later = np.flatnonzero(queries.time // DAY > today)
    if len(later):
        assert not torch.equal(scores(split, later), scores(changed, later))


def test_a_query_knows_what_happened_the_day_before() -> None:
    """Users 0 and 1 touch items 0 and 1 in the test window; the similarity is there the day after, not at once."""
    split = tiny([0, 0, 1, 1, 2, 2, 2], [0, 1, 0, 1, 0, 2, 2], [5.0, 5.1, 5.2, 5.3, 5.4, 5.5, 6.0], 3)
    queries = make_queries(split, TEST)
    model = StreamingItemKNN.fit(split, StreamingSettings(shrinkage=0.0, gamma=1.0))
    assert np.allclose(model.score(queries)[0, 1], 2 / np.sqrt(3 * 2))
    same_day = make_queries(split, VALID)
    assert not model.score(same_day).any()


def test_fading_by_hand() -> None:
    """Day 20, half-life 10: a_00 = 2^-1 (day 0), a_01 = 2^-.5 (day 10), a_11 = 2^-.5 (day 10), a_12 = 1 (day 20)."""
    split = tiny([0, 0, 1, 1, 0, 0], [0, 1, 1, 2, 2, 2], [0, 10, 10, 20, 21, 22], 3)
    counts = CooccurrenceCounts(FirstInteractions.from_log(split.interactions, 2, 3), 3, half_life_days=10.0)
    counts.count_until(20 * DAY)
    assert np.allclose(counts.item_counts(), [0.25, 1.0, 0.0])
    assert np.allclose(counts.get_rows(np.array([0])).toarray(), [[0, 2**-1.5, 0]])  # .5 * 2^-.5
    counts.count_until(20 * DAY + 1)
    assert np.allclose(counts.get_rows(np.array([1])).toarray(), [[2**-1.5, 0, 2**-0.5]], rtol=1e-4)
    counts.count_until(30 * DAY)  # everything halves, and user 0's event of day 21 comes in
    assert np.allclose(counts.item_counts(), [0.125, 0.5, 0.5 + 2**-0.9], rtol=1e-5)


def test_fading_survives_many_half_lives() -> None:
    """Sums move to a later reference; what has faded to nothing is dropped, and divides nothing by nothing."""
    split = tiny([0, 0, 1, 1, 1, 1], [0, 1, 0, 1, 0, 2], [0, 0, 2000, 2000, 2001, 2002], 3)
    settings = StreamingSettings(shrinkage=0.0, gamma=1.0, half_life_days=1.0)
    scores = StreamingItemKNN.fit(split, settings).score(make_queries(split, TEST))
    assert torch.isfinite(scores).all()
    assert np.allclose(scores[0, 1], 2.0, atol=1e-5)  # of item 0, touched twice, and both pairs are as old: cosine 1


def test_history_weights_by_hand() -> None:
    """User 2 touched item 0 twenty days before item 1: with a half-life of ten days it counts a quarter."""
    split = tiny([0, 0, 1, 1, 2, 2, 2], [0, 2, 1, 3, 0, 1, 2], [0, 0, 0, 0, 10, 30, 40], 4)
    queries = make_queries(split, TEST)
    alike = StreamingItemKNN.fit(split, StreamingSettings(shrinkage=0.0)).score(queries)[0]
    recent = StreamingItemKNN.fit(split, StreamingSettings(shrinkage=0.0, history_half_life_days=10.0))
    assert np.allclose(recent.score(queries)[0, 2:], alike[2:] * torch.tensor([0.25, 1.0]))
    assert alike[2] > 0


def test_a_user_with_much_behind_them_pairs_with_the_last_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs_module, "MAX_EARLIER", 2)
    split = tiny([0] * 6, [0, 1, 2, 3, 3, 3], [0, 1, 2, 3, 4, 5], 4)
    counts = CooccurrenceCounts(FirstInteractions.from_log(split.interactions, 1, 4), 4)
    counts.count_until(10 * DAY)
    assert np.array_equal(counts.get_rows(np.array([3])).toarray(), [[0, 1, 1, 0]])
    assert np.array_equal(counts.item_counts(), np.ones(4))


def test_no_history_and_no_queries(split: Split) -> None:
    queries = make_queries(split, TEST)
    model = StreamingItemKNN.fit(split)
    assert model.score(queries.take(slice(0, 0))).shape == (0, split.n_items)
    empty = queries.take(slice(0, 1))
    empty.end[:] = empty.start
    assert not model.score(empty).any()


def test_each_row_tunes_what_it_asks_about(split: Split) -> None:
    valid = make_queries(split, VALID)
    fresh, decayed, recent = (
        [settings for settings, _ in StreamingItemKNN.tune(split, valid, row, Tuning(budget=4)).tried]
        for row in ("item_knn_streaming", "item_knn_decayed", "recency_decay")
    )
    assert {(s.half_life_days, s.history_half_life_days) for s in fresh} == {(None, None)}
    assert all(s.half_life_days and s.history_half_life_days is None for s in decayed)
    assert all(s.half_life_days is None and s.history_half_life_days for s in recent)
    assert all(len(set(tried)) == 4 for tried in (fresh, decayed, recent))


@pytest.mark.parametrize("name", ["half_life_days", "history_half_life_days"])
def test_a_half_life_is_above_zero(name: str) -> None:
    wrong: dict[str, Any] = {name: 0.0}
    with pytest.raises(ConfigError, match=f"{name}=0: not above 0"):
        StreamingSettings(**wrong)
