"""Telling users of a training from others: the measure by hand, its interval, and what it is told from."""

from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from llmrec.config import ModelConfig
from llmrec.data.batches import training_windows
from llmrec.data.histories import make_queries
from llmrec.data.interactions import Mask, Rows
from llmrec.data.splits import Split
from llmrec.data.synthetic import planted_world
from llmrec.evaluation import membership
from llmrec.evaluation.membership import Attack, attack_lines, auc_interval, user_losses
from llmrec.evaluation.privacy_words import privacy_text
from llmrec.models.recommender_model import RecommenderModel
from llmrec.training.scorer import ModelScorer

MODEL = ModelConfig(dim=32, layers=1, max_history=8, dropout=0.0, id_dropout=0.0)


def test_the_auc_by_hand() -> None:
    found = auc_interval(np.array([3.0, 1.0, 2.0]), np.array([2.0, 0.0]))
    assert found.value == pytest.approx((2 + 1 + 1.5) / 6)
    assert found.low <= found.value <= found.high <= 1
    same = auc_interval(np.ones(50), np.ones(40))
    assert same == (0.5, 0.5, 0.5)
    assert auc_interval(np.ones(9), np.zeros(9)) == (1.0, 1.0, 1.0)


def test_the_interval_is_about_as_wide_as_theory_has_it() -> None:
    """Of two samples of one distribution: variance (M + N + 1) / 12 MN (Mann & Whitney 1947)."""
    rng = np.random.default_rng(0)
    found = auc_interval(rng.normal(size=200), rng.normal(size=300))
    assert found.low < 0.5 < found.high
    assert found.high - found.low == pytest.approx(2 * 1.96 * (501 / (12 * 200 * 300)) ** 0.5, rel=0.15)


def test_false_alarms_are_counted() -> None:
    others = np.arange(100.0)
    attack = Attack.of("a", np.array([200.0, 97.0, 3.0, 94.0]), others)
    assert attack.caught == 0.5  # above 95, and so are 4 of the 100 others
    assert (others > 95).mean() <= 0.05
    assert Attack.read({**asdict(attack), "auc": list(attack.auc)}) == attack


def test_a_users_loss_is_the_mean_over_targets_of_what_is_recommended(monkeypatch: pytest.MonkeyPatch) -> None:
    log, _ = planted_world(n_users=20, n_items=30, events_per_user=6)
    known = torch.arange(30) % 4 != 0
    model = RecommenderModel(replace(MODEL, max_history=4, dropout=0.5), known, None)
    model.novelty.fill_(0.4)
    windows = training_windows(log.interactions, 20, 4, "strict")
    monkeypatch.setattr(membership, "SCORES_AT_ONCE", 30 * 7)
    users, losses = user_losses(model, windows)
    assert model.training
    assert np.array_equal(users, np.arange(20))
    queries = make_queries(Split("by_time", log.interactions, np.zeros(120, np.int8), 20, 30, 0, 0), 0)
    scores = ModelScorer(model).scores(queries)
    each = functional.cross_entropy(scores, torch.from_numpy(queries.target), reduction="none").double().numpy()
    first = _firsts(queries.user, 3)  # later ones lie in windows that begin later than a query's history
    short = training_windows(log.interactions.take(_firsts(log.interactions.user, 3)), 20, 4, "strict")
    np.testing.assert_allclose(
        user_losses(model, short)[1], np.bincount(queries.user[first], each[first]) / 3, rtol=1e-5
    )
    assert losses.shape == (20,)


def _firsts(user: Rows, n: int) -> Mask:
    """Each user's first n events."""
    return np.array([np.sum(user[:event] == user[event]) < n for event in range(len(user))])


def test_words() -> None:
    attack = Attack.of("the loss", np.arange(5.0) + 1, np.arange(5.0), samples=20)
    assert "5 users of the training" in attack_lines([attack])[0]
    told = privacy_text({"membership": [asdict(attack)]})
    assert told.startswith("Trained without differential privacy: nothing is guaranteed.")
    spent = {
        "epsilon": 4.0, "delta": 1e-3, "noise_multiplier": 1.1, "clip_norm": 0.5, "sample_rate": 0.25, "steps": 40,
        "n_users": 400, "accountant": "prv", "secure": True, "n_weights": 1234, "text_match": 0.0,
    }  # fmt: skip
    assert "epsilon = 4 at delta = 0.001" in privacy_text({"privacy": spent})
    assert "it would be epsilon = 4" in privacy_text({"privacy": spent | {"secure": False}})
    assert "**nothing is guaranteed**" in privacy_text({"privacy": spent | {"epsilon": None}})
    assert privacy_text({}) == ""
