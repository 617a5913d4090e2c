"""Weights of items of the history, by the likelihood of validation queries."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from hypothesis import given, settings
from hypothesis import strategies as st

from llmrec.config.data import DataConfig
from llmrec.config.evaluation import EvaluationConfig
from llmrec.config.jobs.finetune import FinetuneConfig
from llmrec.config.model import ModelConfig
from llmrec.config.train import TrainConfig
from llmrec.data.histories import Histories, Queries, make_queries
from llmrec.data.interactions import Interactions
from llmrec.data.log import Log
from llmrec.data.repeats import list_seen
from llmrec.data.splits import TEST
from llmrec.data.synthetic_log import make_synthetic_log
from llmrec.evaluation.model_scorer import ModelScorer
from llmrec.evaluation.ranking import mean_ndcg, rank_queries
from llmrec.models.recommender_model import RecommenderModel
from llmrec.models.repeat_bias import N_FEATURES
from llmrec.training.repeat_fit import collect_evidence, fit_repeat_bias, join_evidence, negative_log_likelihood
from llmrec.training.task import make_task
from llmrec.training.two_stage import fit_model

Past = st.lists(st.integers(0, 8), max_size=7)


def make_model() -> RecommenderModel:
    torch.manual_seed(0)
    model = RecommenderModel(ModelConfig(dim=8, max_history=4), torch.arange(9) % 4 != 0, torch.randn(9, 6)).eval()
    model.repeats.set_rates(np.arange(9) * 10, np.arange(9))
    return model


def queries_for(pasts: list[list[int]]) -> Queries:
    offset = np.concatenate([[0], np.cumsum([len(past) for past in pasts])]).astype(np.int64)
    item, user = np.array([row for past in pasts for row in past], dtype=np.int64), np.arange(len(pasts))
    past = Histories(item, np.arange(len(item)), offset, np.arange(len(item)))
    return Queries(past, user, user + 100, user % 9, offset[:-1], offset[1:])


@settings(deadline=None)
@given(st.lists(Past, min_size=1, max_size=5), st.integers(0, 2**16))
def test_scores_and_likelihood_are_those_of_the_whole_softmax(pasts: list[list[int]], seed: int) -> None:
    model, queries = make_model(), queries_for(pasts)
    evidence = collect_evidence(model, queries)
    plain = ModelScorer(model).score(queries).double()
    weights = torch.randn(N_FEATURES, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    model.repeats.set_weights(weights)
    dense = plain.clone()
    query, item, gap, count = map(torch.from_numpy, list_seen(queries, 4))
    dense[query, item] += model.repeats(item, gap, count).double()
    torch.testing.assert_close(ModelScorer(model).score(queries).double(), dense, rtol=1e-5, atol=1e-5)

    target = torch.from_numpy(queries.target)
    own = plain.gather(1, target[:, None])[:, 0]
    expected = -(dense.log_softmax(1).gather(1, target[:, None])[:, 0] - own)
    if len(set(range(9)) - set(pasts[0])) and all(len(set(past)) < 9 for past in pasts):
        expected = expected - evidence.rest
        got = negative_log_likelihood(weights, evidence)
        assert float(got) == pytest.approx(float(expected.mean()), abs=1e-4)


def test_several_processes_have_the_evidence_of_one() -> None:
    model, queries = make_model(), queries_for([[1, 2], [], [3, 3, 4], [5]])
    parts = [collect_evidence(model, queries.take(slice(0, 3))), collect_evidence(model, queries.take(slice(3, 4)))]
    for one, other in zip(join_evidence(parts), collect_evidence(model, queries), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_without_evidence_nothing_gains() -> None:
    model = make_model()
    fit_repeat_bias(model.repeats, collect_evidence(model, queries_for([[], []])))
    assert not model.repeats


def repeat_events(log: Log) -> Log:
    """The log with every second event of a user taken again right after it."""
    events = log.interactions
    again = np.flatnonzero(np.arange(len(events)) % 2 == 0)
    user, item, time = (np.concatenate([column, column[again]]) for column in (events.user, events.item, events.time))
    time[len(events) :] += 1
    return replace(log, interactions=Interactions.sort(user, item, time))


@pytest.mark.parametrize("repeats", [True, False])
def test_a_log_with_repeats_gets_them_and_one_without_ranks_as_with_a_mask(tmp_path: Path, repeats: bool) -> None:
    log = make_synthetic_log(n_users=150, n_items=80, seed=3)[0]
    log = repeat_events(log) if repeats else log
    config = FinetuneConfig(
        DataConfig(repeats="keep"), output=tmp_path, evaluation=EvaluationConfig(max_valid_queries=300)
    )
    task = make_task("by_time", log, config, Accelerator(cpu=True))
    model_config = ModelConfig(dim=16, max_history=8, item_affinity=0.0, text_similarity=False)
    text = torch.randn(log.n_items, 12)
    model = fit_model("fit", task, model_config, TrainConfig(epochs=2), text=text, seed=0).model
    test = make_queries(task.split, TEST)
    weights = model.repeats.weights
    if repeats:
        assert weights[0] + weights[1] > 0
        fitted = mean_ndcg(ModelScorer(model), test, mask_seen=False)
        model.repeats.set_weights(torch.zeros(N_FEATURES))
        assert fitted > 1.2 * mean_ndcg(ModelScorer(model), test, mask_seen=False)
    else:
        assert weights[0] < -5
        open_, masked = (rank_queries(ModelScorer(model), test, mask_seen=mask).rank for mask in (False, True))
        np.testing.assert_array_equal(open_, masked)
