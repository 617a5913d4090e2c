"""The weekly metric of a model is the mean over the queries of each week after the cutoff."""

from __future__ import annotations

import numpy as np
import pytest

from llmrec.config.evaluation import EvaluationConfig
from llmrec.data.histories import Queries
from llmrec.data.interactions import Interactions
from llmrec.data.splits import Split, split_by_time
from llmrec.evaluation.aggregate import compute_weekly, make_test_queries
from llmrec.evaluation.model_rows import DRIFT_STATIC, FROZEN
from llmrec.evaluation.ranking import Ranking
from tests.evaluation.conftest import DAY, N_ITEMS, N_USERS

CONFIG = EvaluationConfig(bootstrap_samples=50)


@pytest.fixture
def by_time(log: Interactions) -> Split:
    return split_by_time(log, N_USERS, N_ITEMS, valid_fraction=0.15, test_fraction=0.3)


def make_ranking(queries: Queries, rank: np.ndarray) -> Ranking:
    return Ranking(rank.astype(np.float64), np.zeros((len(queries), 20), dtype=np.int64))


def test_weeks_are_counted_from_the_cutoff(by_time: Split) -> None:
    queries = make_test_queries(by_time, "strict", CONFIG)
    week = (queries.time - by_time.test_start) // (7 * DAY) + 1
    assert len(np.unique(week)) > 1
    first, second = np.where(week == 1, 1, 3), np.full(len(queries), 2)
    rankings = {FROZEN: [make_ranking(queries, first)], DRIFT_STATIC: [make_ranking(queries, second)]}
    rows = compute_weekly(by_time, queries, rankings, [FROZEN, DRIFT_STATIC], config=CONFIG)
    assert {(row.metric, row.split) for row in rows} == {("ndcg@10", "by_time")}
    assert [(row.slice, row.model) for row in rows[:2]] == [("1", FROZEN), ("1", DRIFT_STATIC)]
    for row in rows:
        assert row.n == (week == int(row.slice)).sum()
        rank = 2 if row.model == DRIFT_STATIC else 1 if row.slice == "1" else 3
        assert row.value == pytest.approx(1 / np.log2(rank + 1))
    assert sum(row.n for row in rows) == 2 * len(queries)


def test_seeds_are_averaged_and_weeks_without_queries_left_out(by_time: Split) -> None:
    queries = make_test_queries(by_time, "strict", CONFIG)
    week = (queries.time - by_time.test_start) // (7 * DAY) + 1
    queries = queries.take(week != week.min())
    ones = np.ones(len(queries))
    seeds = [make_ranking(queries, ones), make_ranking(queries, 3 * ones)]
    rows = compute_weekly(by_time, queries, {FROZEN: seeds}, [FROZEN], config=CONFIG)
    assert [row.slice for row in rows] == [str(number) for number in np.unique(week)[1:]]
    assert all(row.value == pytest.approx((1 + 0.5) / 2) for row in rows)
