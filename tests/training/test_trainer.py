"""The loop: it learns, stops when it should, weighs targets alike, and resumes to the same bits."""

import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator

from llmrec import errors
from llmrec.config.checkpoints import CheckpointConfig
from llmrec.config.data import DataConfig
from llmrec.config.jobs.finetune import FinetuneConfig
from llmrec.config.model import ModelConfig
from llmrec.config.split import SplitConfig
from llmrec.config.train import TrainConfig
from llmrec.data.synthetic_log import make_synthetic_log
from llmrec.errors import ConfigError
from llmrec.models.recommender_model import RecommenderModel
from llmrec.training.checkpoints import Progress, get_trainable_state, load_trainable
from llmrec.training.task import TrainingTask, make_task
from llmrec.training.trainer import Trainer
from llmrec.training.two_stage import fit_model

MODEL = ModelConfig(dim=16, n_layers=1, n_heads=2, max_history=8, dropout=0.1)
TRAIN = TrainConfig(epochs=3, patience=9, batch_targets=64, learning_rate=3e-3, evals_per_epoch=2)


@pytest.fixture
def task(tmp_path: Path) -> TrainingTask:
    log, _ = make_synthetic_log(n_users=80, n_items=60, events_per_user=10)
    config = FinetuneConfig(DataConfig(), output=tmp_path, split=SplitConfig())
    return make_task("by_time", log, config, Accelerator(cpu=True))


def weights(model: RecommenderModel) -> dict[str, torch.Tensor]:
    return get_trainable_state(model)


def fit(task: TrainingTask, **changes: object) -> tuple[RecommenderModel, Progress]:
    fitted = fit_model("model", task, MODEL, replace(TRAIN, **changes), text=None, seed=3)
    return fitted.model, fitted.progress


def test_it_learns_and_keeps_the_best_weights(task: TrainingTask) -> None:
    _, progress = fit(task, epochs=6)
    losses = [point["loss"] for point in progress.history]
    assert losses[-1] < losses[0] - 0.15
    assert progress.best == max(point["valid_ndcg"] for point in progress.history)


def test_one_seed_gives_the_same_bits_and_another_does_not(task: TrainingTask) -> None:
    first, second = weights(fit(task)[0]), weights(fit(task)[0])
    other = weights(fit_model("model", task, MODEL, TRAIN, text=None, seed=4).model)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


class InterruptionError(Exception):
    pass


@pytest.mark.parametrize("measured", [1, 2, 3])
def test_a_run_that_was_cut_off_resumes_to_the_same_bits(
    task: TrainingTask, measured: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    uninterrupted, progress = fit(replace(task, folder=task.folder / "whole"))
    step = Trainer._step

    def cut_off(self: Trainer, group: object, row: int) -> float:
        if len(self.progress.history) == measured and row % 2 == 1:  # in the middle, after a checkpoint
            raise InterruptionError
        return step(self, group, row)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_step", cut_off)
        with pytest.raises(InterruptionError):
            fit(task)
    torch.manual_seed(99)  # whatever happened in between
    resumed, resumed_progress = fit(replace(task, resume=True))
    assert resumed_progress == progress
    for name, weight in weights(uninterrupted).items():
        assert torch.equal(weight, weights(resumed)[name])


@pytest.mark.parametrize("how", ["killed", "told to end"])
def test_in_the_midst_of_an_epoch_nothing_is_lost_either(
    task: TrainingTask, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    uninterrupted, progress = fit(replace(task, folder=task.folder / "whole"))
    step, steps = Trainer._step, []

    def cut_off(self: Trainer, group: object, row: int) -> float:
        steps.append(self.progress.step)
        if len(steps) == 8:  # the second of its stretch
            if how == "killed":
                raise InterruptionError
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, group, row)  # type: ignore[arg-type]

    each_step = replace(task, checkpoints=CheckpointConfig(save_every_minutes=0 if how == "killed" else None))
    monkeypatch.setattr(Trainer, "_step", cut_off)
    with pytest.raises(
        InterruptionError if how == "killed" else errors.RunInterruptedError,
        match=None if how == "killed" else "after step 8;",
    ):
        fit(each_step)
    torch.manual_seed(99)
    resumed, resumed_progress = fit(replace(each_step, resume=True))
    assert steps[8] == (7 if how == "killed" else 8)
    assert resumed_progress == progress
    for name, weight in weights(uninterrupted).items():
        assert torch.equal(weight, weights(resumed)[name])


def test_a_refit_that_was_cut_off_keeps_its_last_weights(task: TrainingTask, monkeypatch: pytest.MonkeyPatch) -> None:
    uninterrupted, _ = fit(replace(task, folder=task.folder / "whole"), refit=True, evals_per_epoch=1)
    step = Trainer._step

    def cut_off(self: Trainer, group: object, row: int) -> float:
        if self.run.name == "model-refit" and self.progress.epoch == 1:
            raise InterruptionError
        return step(self, group, row)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_step", cut_off)
        with pytest.raises(InterruptionError):
            fit(task, refit=True, evals_per_epoch=1)
    resumed, _ = fit(replace(task, resume=True), refit=True, evals_per_epoch=1)
    for name, weight in weights(uninterrupted).items():
        assert torch.equal(weight, weights(resumed)[name])


def test_a_checkpoint_of_another_configuration_is_refused(task: TrainingTask) -> None:
    fit(task)
    with pytest.raises(ConfigError, match="another configuration"):
        fit(replace(task, resume=True), learning_rate=1e-4)
    anew, _ = fit(replace(task, resume="auto"), learning_rate=1e-4)
    expected, _ = fit(replace(task, folder=task.folder / "elsewhere"), learning_rate=1e-4)
    assert all(torch.equal(weight, weights(expected)[name]) for name, weight in weights(anew).items())


def test_accumulation_weighs_every_target_alike(task: TrainingTask, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many small batches to a step and one large batch have the same gradient, hence the same step."""
    monkeypatch.setattr(torch.optim, "AdamW", torch.optim.SGD)  # Adam would blow up rounding errors
    still = replace(MODEL, dropout=0.0)
    once = {"epochs": 1, "evals_per_epoch": 1, "max_grad_norm": 0.0, "learning_rate": 1.0, "warmup_ratio": 0.0}
    whole = fit_model("whole", task, still, replace(TRAIN, batch_targets=10**6, **once), text=None, seed=0).model
    parts = fit_model(
        "parts",
        task,
        still,
        replace(TRAIN, batch_targets=100, gradient_accumulation_steps=10**6, **once),
        text=None,
        seed=0,
    ).model
    for name, weight in weights(whole).items():
        torch.testing.assert_close(weights(parts)[name], weight, atol=1e-5, rtol=1e-4)


def test_early_stopping_waits_for_its_patience(task: TrainingTask) -> None:
    _, progress = fit(task, epochs=50, patience=2, learning_rate=0.0, evals_per_epoch=1)
    assert len(progress.history) == 3  # the first is the best, two more without gain


def test_refit_trains_anew_on_train_and_validation(task: TrainingTask) -> None:
    plain, progress = fit(task)
    refitted, same = fit(replace(task, folder=task.folder / "refit"), refit=True)
    assert same.best_epoch == progress.best_epoch
    assert refitted.items.known.sum() >= plain.items.known.sum()
    assert not torch.equal(weights(plain)["items.ids.weight"], weights(refitted)["items.ids.weight"])


def test_weights_of_another_model_are_refused() -> None:
    model = RecommenderModel(MODEL, torch.ones(4, dtype=torch.bool), None)
    with pytest.raises(ConfigError, match="train different weights"):
        load_trainable(model, {"else": torch.zeros(1)})


def test_a_refit_leaves_the_model_that_validation_can_judge(task: TrainingTask) -> None:
    once = fit_model("model", task, MODEL, TRAIN, text=None, seed=3)
    assert once.watched is once.model
    again = fit_model("again", task, MODEL, replace(TRAIN, refit=True), text=None, seed=3)
    for name, weight in weights(once.model).items():
        assert torch.equal(weights(again.watched)[name], weight)
    assert int(again.model.items.known.sum()) >= int(again.watched.items.known.sum())
    assert not all(
        torch.equal(weights(again.model)[name], weights(again.watched)[name]) for name in weights(once.model)
    )
