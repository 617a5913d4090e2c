"""A model that has learned its users by heart gives them away, and an untrained one cannot."""

from dataclasses import replace
from itertools import count

import numpy as np
import pytest
from accelerate import Accelerator

from llmrec.config.data import DataConfig
from llmrec.config.evaluation import EvaluationConfig
from llmrec.config.jobs.finetune import FinetuneConfig
from llmrec.config.model import ModelConfig
from llmrec.config.privacy import MembershipConfig
from llmrec.config.split import SplitConfig
from llmrec.config.train import TrainConfig
from llmrec.data.splits import TRAIN, UNUSED
from llmrec.data.synthetic_log import make_synthetic_log
from llmrec.evaluation.membership import MembershipAttack
from llmrec.models.recommender_model import RecommenderModel
from llmrec.training.membership_audit import measure_membership, split_held_out_users, with_training_users
from llmrec.training.objectives import RecommendationObjective
from llmrec.training.task import TrainingTask, make_task
from llmrec.training.two_stage import make_model, train

MODEL = ModelConfig(dim=32, n_layers=1, max_history=8, dropout=0.0, id_dropout=0.0)
OVERFIT = TrainConfig(epochs=40, patience=99, learning_rate=2e-2, batch_targets=256)
CONFIG = FinetuneConfig(
    DataConfig(),
    model=MODEL,
    train=replace(OVERFIT, epochs=3),
    split=SplitConfig(held_out_user_fraction=0.5),
    evaluation=EvaluationConfig(bootstrap_samples=200, max_valid_queries=20),
)


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> TrainingTask:
    log, _ = make_synthetic_log(n_users=120, n_items=60, events_per_user=8)
    return make_task("by_time", log, replace(CONFIG, output=tmp_path_factory.mktemp("run")), Accelerator(cpu=True))


def memorized(task: TrainingTask) -> RecommenderModel:
    """At the end of a fit that nothing stops. All items count as known: which are would give users away by itself."""
    model, steps = make_model(task.split, MODEL, None, 0, everything_known=True), count()
    train("memorized", task, RecommendationObjective(model), OVERFIT, seed=0, validate=lambda: float(next(steps)))
    return model


def test_those_held_out_are_not_learned_from(task: TrainingTask) -> None:
    held = np.unique(task.split.interactions.user[task.split.part == UNUSED])
    assert not np.intersect1d(held, task.split.train.user).size
    others, spare = split_held_out_users(task.split, np.random.default_rng(0), halved=True)
    assert np.array_equal(np.union1d(others, spare), held)
    assert not np.intersect1d(others, spare).size
    apart = with_training_users(task.split, spare)
    assert np.array_equal(np.unique(apart.interactions.user[apart.part == TRAIN]), spare)
    assert np.array_equal(apart.valid.item, task.split.valid.item)


def test_an_overfitted_model_gives_its_users_away_and_an_untrained_one_does_not(task: TrainingTask) -> None:
    asked, overfitted = MembershipConfig(reference=True), memorized(task)
    attacks = [
        MembershipAttack.from_record(record)
        for record in measure_membership(task, CONFIG, asked, overfitted, text=None, seed=0)
    ]
    assert [attack.name for attack in attacks] == ["the loss", "the loss relative to another model's"]
    assert attacks[0].auc.low > 0.7
    assert attacks[1].auc.value > attacks[0].auc.value - 0.05
    assert attacks[0].true_positive_rate > 0.3
    untrained = make_model(task.split, MODEL, None, 1, everything_known=True)
    (guess,) = measure_membership(task, CONFIG, replace(asked, reference=False), untrained, text=None, seed=0)
    assert MembershipAttack.from_record(guess).auc.low < 0.5 < MembershipAttack.from_record(guess).auc.high
