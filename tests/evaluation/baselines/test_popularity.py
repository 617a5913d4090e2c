from __future__ import annotations

import numpy as np
import pytest

from llmrec.data.histories import make_queries
from llmrec.data.splits import TEST, VALID, Split
from llmrec.evaluation.baselines import Popularity, RecentPopularity, RecentSettings, Tuning

DAY = 86_400


def test_popularity_counts_training_events_alone(split: Split) -> None:
    scores = Popularity.fit(split).score(make_queries(split, TEST)).numpy()
    expected = [np.sum(split.train.item == item) for item in range(split.n_items)]
    assert np.array_equal(scores, np.tile(expected, (len(scores), 1)))


@pytest.mark.parametrize("days", [0.5, 1.0, 7.0, 30.0])
def test_recent_popularity_is_that_of_a_naive_loop(split: Split, days: float) -> None:
    queries = make_queries(split, TEST)
    order = np.random.default_rng(0).permutation(len(queries))  # batches need not be in time order
    scores = RecentPopularity.fit(split, RecentSettings(days)).score(queries.take(order)).numpy()
    log = split.interactions
    for row, at in zip(scores, queries.time[order], strict=True):
        inside = (log.time >= at - days * DAY) & (log.time < at)
        assert np.array_equal(row, np.bincount(log.item[inside], minlength=split.n_items))


def test_the_frozen_twin_counts_the_last_training_days(split: Split) -> None:
    scores = RecentPopularity.fit_static(split, RecentSettings(7.0)).score(make_queries(split, TEST)).numpy()
    train = split.train
    inside = train.time > train.time.max() - 7 * DAY
    assert np.array_equal(scores[0], np.bincount(train.item[inside], minlength=split.n_items))
    assert np.all(scores == scores[0])


def test_the_window_is_tuned_on_validation_and_the_search_is_recorded(split: Split) -> None:
    found = RecentPopularity.tune(split, make_queries(split, VALID), Tuning(budget=4))
    record = found.to_record()
    assert record["n_tried"] == len(record["tried"]) == 4
    assert record["tried"][0]["days"] == 7.0  # the default is always tried
    best = max(record["tried"], key=lambda point: point["valid_ndcg@10"])
    assert record["chosen"]["days"] == best["days"]
