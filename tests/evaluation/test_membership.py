"""Telling users of a training from others: the measure by hand, its interval, and what it is told from."""

from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from llmrec.config.model import ModelConfig
from llmrec.data.batches import build_training_windows, collate_windows
from llmrec.data.histories import make_queries
from llmrec.data.splits import Split
from llmrec.data.synthetic_log import make_synthetic_log
from llmrec.evaluation import membership
from llmrec.evaluation.membership import MembershipAttack, bootstrap_auc, compute_user_losses
from llmrec.evaluation.model_scorer import ModelScorer
from llmrec.evaluation.run_metadata import RunMetadata
from llmrec.models.recommender_model import RecommenderModel
from llmrec.reports.privacy_text import format_attacks, render_privacy_section
from llmrec.training.objectives import RecommendationObjective

MODEL = ModelConfig(dim=32, n_layers=1, max_history=8, dropout=0.0, id_dropout=0.0)


def test_the_auc_by_hand() -> None:
    found = bootstrap_auc(np.array([3.0, 1.0, 2.0]), np.array([2.0, 0.0]))
    assert found.value == pytest.approx((2 + 1 + 1.5) / 6)
    assert found.low <= found.value <= found.high <= 1
    same = bootstrap_auc(np.ones(50), np.ones(40))
    assert same == pytest.approx((0.5, 0.5, 0.5))
    assert bootstrap_auc(np.ones(9), np.zeros(9)) == pytest.approx((1.0, 1.0, 1.0))


def test_the_interval_is_about_as_wide_as_theory_has_it() -> None:
    """Of two samples of one distribution: variance (M + N + 1) / 12 MN (Mann & Whitney 1947)."""
    rng = np.random.default_rng(0)
    found = bootstrap_auc(rng.normal(size=200), rng.normal(size=300))
    assert found.low < 0.5 < found.high
    assert found.high - found.low == pytest.approx(2 * 1.96 * (501 / (12 * 200 * 300)) ** 0.5, rel=0.15)


def test_false_alarms_are_counted() -> None:
    others = np.arange(100.0)
    attack = MembershipAttack.from_scores("a", np.array([200.0, 97.0, 3.0, 94.0]), others)
    assert attack.true_positive_rate == 0.5  # above 95, and so are 4 of the 100 others
    assert (others > 95).mean() <= 0.05
    assert MembershipAttack.from_record({**asdict(attack), "auc": list(attack.auc)}) == attack


@pytest.mark.parametrize("at_once", [30, 30 * 7, 10**6])
def test_a_users_loss_is_the_mean_over_what_training_asks(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    log, _ = make_synthetic_log(n_users=20, n_items=30, events_per_user=6)
    model = RecommenderModel(replace(MODEL, max_history=4, dropout=0.5), torch.ones(30, dtype=torch.bool), None)
    windows = build_training_windows(log.interactions, 20, 4, "strict")
    monkeypatch.setattr(membership, "SCORES_AT_ONCE", at_once)
    users, losses = compute_user_losses(model, windows)
    assert model.training
    assert np.array_equal(users, np.arange(20))
    objective = RecommendationObjective(model.eval())
    for user in (0, 7):
        own = np.flatnonzero(windows.histories.user[windows.target[windows.first_target[:-1]]] == user)
        assert len(own) > 1
        loss = objective(collate_windows(windows, own, query_time_known=False), None, None)
        assert losses[user] == pytest.approx(float(loss.detach()) / 6, rel=1e-5)


def test_new_items_are_scored_as_they_are_recommended() -> None:
    log, _ = make_synthetic_log(n_users=20, n_items=30, events_per_user=1)
    model = RecommenderModel(MODEL, torch.arange(30) % 3 != 0, None)
    model.novelty.fill_(0.7)
    queries = make_queries(Split("by_time", log.interactions, np.zeros(20, np.int8), 20, 30, 0, 0), 0)
    target = torch.from_numpy(queries.target)
    expected = functional.cross_entropy(ModelScorer(model).score(queries), target, reduction="none")
    losses = compute_user_losses(model, build_training_windows(log.interactions, 20, 8, "strict"))[1]
    np.testing.assert_allclose(losses[queries.user], expected.detach().numpy(), rtol=1e-5)


def test_words() -> None:
    attack = MembershipAttack.from_scores("the loss", np.arange(5.0) + 1, np.arange(5.0), samples=20)
    assert "5 training users are distinguished from 5 others" in format_attacks([attack])[0]
    told = render_privacy_section(RunMetadata(membership=[asdict(attack)]))
    assert told.startswith("Trained without differential privacy: nothing is guaranteed.")
    spent = {
        "epsilon": 4.0, "delta": 1e-3, "noise_multiplier": 1.1, "clip_norm": 0.5, "sample_rate": 0.25, "steps": 40,
        "n_users": 400, "accountant": "prv", "secure": True, "n_weights": 1234, "text_match": 0.0,
    }  # fmt: skip
    assert "epsilon = 4 at delta = 0.001" in render_privacy_section(RunMetadata(privacy=spent))
    assert "it would be epsilon = 4" in render_privacy_section(RunMetadata(privacy=spent | {"secure": False}))
    assert "**nothing is guaranteed**" in render_privacy_section(RunMetadata(privacy=spent | {"epsilon": None}))
    assert render_privacy_section(RunMetadata()) == ""
