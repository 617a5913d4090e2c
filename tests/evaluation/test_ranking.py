from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor

from llmrec.data.histories import Histories, Queries, make_queries
from llmrec.data.interactions import Interactions
from llmrec.data.splits import TEST, Split
from llmrec.evaluation.ranking import Ranking, ScoreError, mean_ndcg, rank_queries, sample_queries


@dataclass
class Table:
    """A row of scores for each query, by the query's time (which numbers the queries in these tests)."""

    table: np.ndarray

    def score(self, queries: Queries) -> Tensor:
        return torch.from_numpy(self.table[queries.time].astype(np.float32))


def queries_of(targets: np.ndarray, seen: list[list[int]] | None = None) -> Queries:
    """Query q at time q, of user q, with the given history."""
    seen = seen or [[] for _ in targets]
    user = np.repeat(np.arange(len(seen)), [len(items) for items in seen])
    item = np.array([i for items in seen for i in items], dtype=np.int64)
    histories = Histories.from_interactions(Interactions(user, item, np.zeros_like(item)), len(seen))
    rows = np.arange(len(targets))
    return Queries(histories, rows, rows, targets.astype(np.int64), histories.offset[:-1], histories.offset[1:])


def naive_rank(scores: np.ndarray, target: int, seen: list[int]) -> float:
    """By sorting: the mean of the first and the last place that the target can have."""
    kept = [score for item, score in enumerate(scores) if item == target or item not in seen]
    ascending = np.sort(kept)
    first = len(kept) - np.searchsorted(ascending, scores[target], side="right") + 1
    last = len(kept) - np.searchsorted(ascending, scores[target], side="left")
    return float(first + last) / 2


tables = arrays(np.int64, (6, 9), elements=st.integers(-3, 3))  # few values: many ties
targets_of = arrays(np.int64, 6, elements=st.integers(0, 8))
seen_of = st.lists(st.lists(st.integers(0, 8), max_size=12), min_size=6, max_size=6)


@given(tables, targets_of, seen_of, st.integers(1, 7))
def test_ranks_are_those_of_a_naive_sort(
    table: np.ndarray, targets: np.ndarray, seen: list[list[int]], batch_size: int
) -> None:
    found = rank_queries(Table(table), queries_of(targets, seen), n_top=3, batch_size=batch_size).rank
    assert found.tolist() == [naive_rank(row, t, s) for row, t, s in zip(table, targets, seen, strict=True)]


@given(tables, targets_of, st.permutations(range(9)))
def test_the_order_of_the_catalog_does_not_matter(table: np.ndarray, targets: np.ndarray, order: list[int]) -> None:
    there = np.argsort(order)  # item i of the catalog is item there[i] of the shuffled one
    before = rank_queries(Table(table), queries_of(targets)).rank
    assert np.array_equal(before, rank_queries(Table(table[:, order]), queries_of(there[targets])).rank)


@given(tables, targets_of)
def test_only_the_order_of_the_scores_matters(table: np.ndarray, targets: np.ndarray) -> None:
    before = rank_queries(Table(table), queries_of(targets)).rank
    assert np.array_equal(before, rank_queries(Table(np.exp(table) * 3 - 7), queries_of(targets)).rank)


@settings(max_examples=20)
@given(st.integers(1, 8))
def test_a_constant_scorer_gets_the_mean_rank(n_seen: int) -> None:
    queries = queries_of(np.array([8]), [list(range(n_seen))])
    left = 9 - n_seen
    assert rank_queries(Table(np.zeros((1, 9))), queries).rank.tolist() == [(1 + left) / 2]


def test_a_target_that_was_seen_before_is_never_masked() -> None:
    queries = queries_of(np.array([2]), [[0, 2, 2]])
    ranking = rank_queries(Table(np.array([[5.0, 1.0, 3.0, 4.0]])), queries, n_top=4)
    assert ranking.rank.tolist() == [2.0]
    assert ranking.top.tolist() == [[3, 2, 1, -1]]


def test_seen_items_stay_in_for_repeat_consumption() -> None:
    queries = queries_of(np.array([1]), [[0]])
    ranking = rank_queries(Table(np.array([[5.0, 1.0, 3.0]])), queries, n_top=3, mask_seen=False)
    assert ranking.rank.tolist() == [3.0]
    assert ranking.top.tolist() == [[0, 2, 1]]


def test_unreleased_items_are_masked_but_for_the_target() -> None:
    queries = queries_of(np.array([0, 0]))  # at times 0 and 1
    scores = np.array([[1.0, 2.0, 3.0]] * 2)
    ranking = rank_queries(Table(scores), queries, available=np.array([9, 1, 5]))
    assert ranking.rank.tolist() == [1.0, 2.0]


def test_items_that_a_scorer_rules_out_tie_below_the_others_and_masked_ones_do_not_count() -> None:
    queries = queries_of(np.array([1]), [[0]])
    scores = np.array([[9.0, -np.inf, -np.inf, 1.0]])
    assert rank_queries(Table(scores), queries).rank.tolist() == [2.5]


def test_nan_and_misshapen_scores_are_refused() -> None:
    queries = queries_of(np.array([1, 0]))
    with pytest.raises(ScoreError, match="scores: 1 of 4 are NaN"):
        rank_queries(Table(np.array([[0.0, np.nan], [0.0, 0.0]])), queries)
    with pytest.raises(ScoreError, match="Return \\(2, items\\)"):
        rank_queries(Table(np.zeros((2, 3, 1))), queries)


def test_scores_are_not_changed_in_place(split: Split) -> None:
    queries = make_queries(split, TEST)
    held = torch.arange(split.n_items, dtype=torch.float32)

    class Held:
        def score(self, queries: Queries) -> Tensor:
            return held.expand(len(queries), -1)

    assert isinstance(rank_queries(Held(), queries), Ranking)
    assert torch.equal(held, torch.arange(split.n_items, dtype=torch.float32))


def test_no_queries_make_an_empty_ranking() -> None:
    queries = queries_of(np.array([1])).take(slice(0, 0))
    ranking = rank_queries(Table(np.zeros((1, 3))), queries, n_top=2)
    assert ranking.rank.shape == (0,)
    assert ranking.top.shape == (0, 2)


def test_mean_ndcg_is_one_for_an_oracle() -> None:
    targets = np.array([3, 1])
    assert mean_ndcg(Table(np.eye(4)[targets]), queries_of(targets)) == 1.0


def test_a_sample_is_seeded_distinct_and_in_order(split: Split) -> None:
    queries = make_queries(split, TEST)
    chosen = sample_queries(queries, 5, seed=1)
    assert len(chosen) == 5
    assert np.all(np.diff(chosen.time) >= 0)
    assert np.array_equal(chosen.target, sample_queries(queries, 5, seed=1).target)
    assert sample_queries(queries, len(queries)) is queries


@given(tables, targets_of, seen_of, arrays(np.bool_, 9))
def test_targets_in_a_pool_are_also_ranked_among_it(
    table: np.ndarray, targets: np.ndarray, seen: list[list[int]], pool: np.ndarray
) -> None:
    found = rank_queries(Table(table), queries_of(targets, seen), n_top=3, batch_size=4, pool=pool).in_pool
    others = np.flatnonzero(~pool).tolist()
    expected = [
        naive_rank(row, target, [*items, *others]) if pool[target] else np.nan
        for row, target, items in zip(table, targets, seen, strict=True)
    ]
    assert found is not None
    np.testing.assert_array_equal(found, expected)
