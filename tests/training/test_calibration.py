"""New items get the share of probability that validation gives them."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from hypothesis import given, settings
from hypothesis import strategies as st

from llmrec.config.data import DataConfig
from llmrec.config.jobs.finetune import FinetuneConfig
from llmrec.config.model import ModelConfig
from llmrec.config.train import TrainConfig
from llmrec.data.histories import Queries, make_queries
from llmrec.data.splits import VALID, Split, split_by_time
from llmrec.data.synthetic_log import make_synthetic_log
from llmrec.evaluation.model_scorer import ModelScorer
from llmrec.models.recommender_model import RecommenderModel
from llmrec.models.text_similarity import TextSimilarity
from llmrec.training.calibration import (
    SimilarityScorer,
    compute_new_item_logits,
    fit_novelty_bias,
    solve_logit_shift,
    tune_text_similarity,
)
from llmrec.training.model_validation import calibrate
from llmrec.training.task import make_task
from llmrec.training.two_stage import fit_model
from llmrec.utils.arrays import Rows

Logits = st.lists(st.floats(-20, 20), min_size=1, max_size=20)


@settings(deadline=None)
@given(Logits, st.floats(0.01, 0.99))
def test_the_shifted_mean_is_the_one_asked_for(logits: list[float], mean: float) -> None:
    given_logits = torch.tensor(logits, dtype=torch.float64)
    shifted = torch.sigmoid(given_logits + solve_logit_shift(given_logits, mean))
    assert float(shifted.mean()) == pytest.approx(mean, abs=1e-5)


def test_half_an_event_keeps_the_odds_finite() -> None:
    even = torch.zeros(9, dtype=torch.float64)
    assert fit_novelty_bias(even, np.zeros(9, dtype=bool)) == pytest.approx(math.log(0.5 / 9.5), abs=1e-5)
    assert fit_novelty_bias(even, np.ones(9, dtype=bool)) == pytest.approx(math.log(9.5 / 0.5), abs=1e-5)


def test_queries_with_one_kind_of_item_say_nothing() -> None:
    logits = torch.tensor([0.0, -torch.inf, torch.inf], dtype=torch.float64)
    is_new = np.array([True, False, True])
    assert fit_novelty_bias(logits, is_new) == pytest.approx(
        math.log(1.5 / 0.5), abs=1e-5
    )  # one of one, and its half events
    assert fit_novelty_bias(logits[1:], is_new[1:]) == 0.0


def world() -> tuple[Split, RecommenderModel, Queries, Rows]:
    torch.manual_seed(0)
    log = make_synthetic_log(n_users=150, n_items=80, seed=3)[0]
    split = split_by_time(log.interactions, log.n_users, log.n_items)
    known = torch.from_numpy(~split.cold_item_mask())
    model = RecommenderModel(ModelConfig(dim=16, max_history=8), known, torch.randn(log.n_items, 12))
    assert log.catalog.release_time is not None
    return split, model, make_queries(split, VALID), log.catalog.release_time


def test_new_items_get_their_share_of_the_validation_targets() -> None:
    split, model, valid, released = world()
    logits = compute_new_item_logits(model, valid, available=released)
    is_new = split.cold_item_mask()[valid.target]
    assert 0 < is_new.mean() < 1
    model.novelty.fill_(fit_novelty_bias(logits, is_new))

    scores = ModelScorer(model).score(valid)
    scores[torch.from_numpy(released > valid.time[:, None])] = -torch.inf
    chance = scores.softmax(1)[:, ~model.items.known].sum(1)[torch.isfinite(logits)]
    counted = is_new[torch.isfinite(logits).numpy()]
    assert float(chance.mean()) == pytest.approx((counted.sum() + 0.5) / (len(counted) + 1), abs=1e-4)


def test_a_fit_calibrates_a_model_that_reads_and_leaves_ids_alone(tmp_path: Path) -> None:
    log = make_synthetic_log(n_users=150, n_items=80, seed=3)[0]
    task = make_task("by_time", log, FinetuneConfig(DataConfig(), output=tmp_path), Accelerator(cpu=True))
    config, train = ModelConfig(dim=16, max_history=8), TrainConfig(epochs=1, refit=True)
    reads = fit_model("reads", task, config, train, text=torch.randn(log.n_items, 12), seed=0).model
    ids = fit_model("ids", task, config, train, text=None, seed=0).model
    assert float(reads.novelty) != 0
    assert float(ids.novelty) == 0


def test_calibrating_again_changes_nothing(tmp_path: Path) -> None:
    log = make_synthetic_log(n_users=150, n_items=80, seed=3)[0]
    task = make_task("by_time", log, FinetuneConfig(DataConfig(), output=tmp_path), Accelerator(cpu=True))
    model = RecommenderModel(
        ModelConfig(dim=16, max_history=8), torch.from_numpy(~task.split.cold_item_mask()), torch.randn(log.n_items, 12)
    )
    match = model.items.match
    assert match is not None
    calibrate(task, model)
    once = float(model.novelty), float(match.strength), float(match.recency)
    assert once[0] != 0
    model.novelty.fill_(3.0)
    match.set_parameters(strength=40.0, recency=0.2)  # as an earlier one may have left it
    calibrate(task, model)
    assert (float(model.novelty), float(match.strength), float(match.recency)) == once


def test_nearness_of_texts_counts_as_much_as_validation_likes_it() -> None:
    text = torch.randn(5, 3)
    match = TextSimilarity(torch.zeros(5, 3)).eval()
    tune_text_similarity(match, text, lambda: -abs(float(match.strength) - 9) - abs(float(match.recency) - 0.6))
    assert (float(match.strength), float(match.recency)) == (10.0, pytest.approx(0.6))
    torch.testing.assert_close(match.centre, text.mean(0))
    tune_text_similarity(match, text, lambda: -float(match.strength))
    assert not match


def test_a_similarity_scorer_gives_the_scores_of_the_model_at_every_strength() -> None:
    _, model, valid, _ = world()
    match, text, queries = model.items.match, model.items.text, valid.take(slice(0, 40))
    assert match is not None
    assert text is not None
    scorer = SimilarityScorer(model)
    match.centre.copy_(text.mean(0) + 0.1)  # as `tune_text_similarity` sets it after the scorer is made
    for strength, recency in ((0.0, 0.8), (5.0, 0.8), (20.0, 0.8), (20.0, 0.6)):
        match.set_parameters(strength, recency)
        torch.testing.assert_close(scorer.score(queries), ModelScorer(model).score(queries), atol=1e-5, rtol=1e-5)
        assert (float(match.strength), float(match.recency)) == (strength, pytest.approx(recency))
