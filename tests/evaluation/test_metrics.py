from __future__ import annotations

import doctest

import numpy as np
import pytest

from llmrec.evaluation import metrics
from llmrec.evaluation.metrics import compute_metrics, coverage, ndcg_at, recall_at


def test_the_worked_examples_hold() -> None:
    failed, tried = doctest.testmod(metrics, extraglobs={"np": np})
    assert (failed, tried) == (0, 4)


def test_ndcg_falls_with_the_rank_and_recall_does_not() -> None:
    rank = np.arange(1.0, 21.0)
    assert np.all(np.diff(ndcg_at(rank, 20)) < 0)
    assert np.all(recall_at(rank, 20) == 1)
    assert ndcg_at(rank, 20)[1] == pytest.approx(1 / np.log2(3))


def test_names_of_metrics_carry_their_cutoffs() -> None:
    assert list(compute_metrics(np.array([1.0]), (5, 10))) == ["recall@5", "ndcg@5", "recall@10", "ndcg@10", "mrr"]


def test_coverage_of_nothing_is_nothing() -> None:
    assert coverage(np.full((3, 2), -1), 7) == 0
