"""What every baseline owes: no look-ahead, a record of its search, clear errors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from llmrec.data.histories import make_queries
from llmrec.data.interactions import Interactions
from llmrec.data.splits import TEST, TRAIN, VALID, Split, split_by_time
from llmrec.errors import ConfigError
from llmrec.evaluation.baselines import BASELINES, BaselineTask, FittedBaseline, Tuning, fit_baselines
from llmrec.evaluation.ranking import rank_queries

STREAMING = {"recent_popularity", "item_knn_streaming", "item_knn_decayed", "recency_decay"}


def fit_all(split: Split) -> dict[str, FittedBaseline]:
    vectors = np.random.default_rng(1).normal(size=(split.n_items, 8)).astype(np.float32)
    task = BaselineTask(split, split, make_queries(split, VALID), vectors, Tuning(budget=2), seeds=(0, 1))
    return fit_baselines(list(BASELINES), task)


def test_every_baseline_ranks_both_splits(split: Split) -> None:
    queries = make_queries(split, TEST)
    fitted = fit_all(split)
    assert list(fitted) == [
        "popularity",
        "recent_popularity",
        "recent_popularity_static",
        "item_knn",
        "item_knn_streaming",
        "item_knn_decayed",
        "recency_decay",
        "matrix",
        "matrix_product",
        "nearest_text",
        "nearest_text_map",
    ]
    for name, baseline in fitted.items():
        assert len(baseline.scorers) == (2 if name.startswith("matrix") else 1)
        assert (baseline.refresh is not None) == (name in STREAMING)
        assert (not baseline.record) == (name == "popularity")
        for scorer in baseline.scorers:
            scores = scorer.score(queries)
            assert scores.shape == (len(queries), split.n_items)
            assert scores.dtype == torch.float32
            assert np.all(rank_queries(scorer, queries).rank >= 1)


def test_the_future_changes_no_score(log: Interactions) -> None:
    """Other events at or after a query's time: the scores of the query stay what they were."""
    split = split_by_time(log, 30, 40, valid_fraction=0.15, test_fraction=0.15)
    queries = make_queries(split, TEST)
    middle = queries.time[len(queries) // 2]
    later = log.time >= middle
    item = np.where(later, (log.item + 7) % 40, log.item)
    changed = replace(split, interactions=Interactions(log.user, item, log.time))
    asked = make_queries(changed, TEST)
    earlier = np.flatnonzero(queries.time <= middle)  # those at `middle` itself included
    before, after = fit_all(split), fit_all(changed)
    for name, baseline in before.items():
        for old, new in zip(baseline.scorers, after[name].scorers, strict=True):
            assert torch.equal(old.score(queries.take(earlier)), new.score(asked.take(earlier))), name


def test_fitting_uses_the_split_it_is_told_to(split: Split) -> None:
    task = BaselineTask(split, split.merge_validation(), make_queries(split, VALID))
    scores = fit_baselines(["popularity"], task)["popularity"].scorers[0].score(make_queries(split, TEST))
    assert scores[0].sum() == np.sum(split.part != TEST) > np.sum(split.part == TRAIN)


def test_unknown_names_and_missing_vectors_are_named(split: Split) -> None:
    task = BaselineTask(split, split, make_queries(split, VALID))
    with pytest.raises(ConfigError, match=r"baselines: \['itemknn'\] are unknown\. Choose from"):
        fit_baselines(["itemknn"], task)
    with pytest.raises(ConfigError, match="'nearest_text': no text vectors of the catalog"):
        fit_baselines(["nearest_text"], task)
