"""LoRA is really trained through the backbone: its weights move, and reading improves where text needs adapting."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file

from llmrec.backbones.adaptation import apply_strategy
from llmrec.backbones.text_backbone import TextBackbone
from llmrec.config.backbone import BackboneConfig, LoraConfig
from llmrec.config.data import DataConfig
from llmrec.config.jobs.finetune import FinetuneConfig
from llmrec.config.model import ModelConfig
from llmrec.config.train import TrainConfig
from llmrec.data.log import Log
from llmrec.data.synthetic_log import make_synthetic_log
from llmrec.errors import ConfigError
from llmrec.evaluation.model_scorer import ModelScorer
from llmrec.training.checkpoints import get_trainable_state
from llmrec.training.model_validation import validation_ndcg
from llmrec.training.objectives import RecommendationObjective
from llmrec.training.task import TrainingTask, make_task
from llmrec.training.trainer import Trainer
from llmrec.training.two_stage import CatalogEncoder, adapt_backbone, fit_model, train
from llmrec.utils.arrays import Rows
from tests.closeness import assert_same

MODEL = ModelConfig(
    dim=16, n_layers=1, n_heads=2, max_history=8, dropout=0.1, use_item_ids=False
)  # text has to carry it all
FROZEN = TrainConfig(epochs=25, patience=5, batch_targets=256, learning_rate=5e-3)
ADAPT = replace(FROZEN, epochs=8, patience=8, trainable_items_per_step=90, backbone_learning_rate=1e-2)


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LLMREC_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def world() -> Log:
    return make_synthetic_log(n_users=400, n_items=90, n_topics=5, events_per_user=12, seed=1)[0]


def reader_of(path: Path, log: Log, strategy: str = "lora") -> CatalogEncoder:
    lora = LoraConfig(rank=8, alpha=16)
    config = BackboneConfig(name=str(path), hub_id="owner/tiny", max_tokens=40, strategy=strategy, last_k=1, lora=lora)  # type: ignore[arg-type]
    backbone = TextBackbone.load(config)
    apply_strategy(backbone, config)
    return CatalogEncoder(backbone, backbone.tokenize(log.catalog.list_texts()))


def task_of(log: Log, folder: Path) -> TrainingTask:
    return make_task("by_time", log, FinetuneConfig(DataConfig(), output=folder), Accelerator(cpu=True))


def test_lora_moves_and_reads_better_than_the_frozen_backbone(world: Log, tiny_bert: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    task, reader = task_of(world, tmp_path), reader_of(tiny_bert, world)
    text = reader.backbone.encode(reader.tokens)
    fit = fit_model("frozen", task, MODEL, FROZEN, text=text, seed=0)
    model, frozen = fit.model, fit.progress
    assert fit.calibrated_ndcg == validation_ndcg(task, ModelScorer(model))
    before, novelty = get_trainable_state(reader.backbone), model.novelty.clone()
    adapted = adapt_backbone("lora", task, model, ADAPT, reader=reader, seed=0)

    moved = [
        name for name, weight in get_trainable_state(reader.backbone).items() if not torch.equal(weight, before[name])
    ]
    assert moved == list(before)
    assert all("lora_" in name for name in moved)
    assert adapted.best > 1.2 * frozen.best
    assert model.novelty != novelty  # calibrated anew, for what it reads now
    # what it learned is in the table, the table is the backbone's reading, and the score is the one reported
    torch.testing.assert_close(model.items.text, reader.backbone.encode(reader.tokens), atol=1e-5, rtol=0)
    assert validation_ndcg(task, ModelScorer(model)) == pytest.approx(adapted.best, abs=1e-3)


def test_adapting_in_vain_leaves_the_fitted_model(world: Log, tiny_bert: Path, tmp_path: Path) -> None:
    """Where no epoch improves validation, the backbone and the layers on it are what they were."""
    torch.manual_seed(0)
    task, reader = task_of(world, tmp_path), reader_of(tiny_bert, world)
    text = reader.backbone.encode(reader.tokens)
    fit = fit_model("frozen", task, MODEL, replace(FROZEN, epochs=12), text=text, seed=0)
    model = fit.model
    before = get_trainable_state(model) | get_trainable_state(reader.backbone)
    hurt = replace(ADAPT, epochs=1, learning_rate=10.0, backbone_learning_rate=10.0)
    progress = adapt_backbone("lora", task, model, hurt, reader=reader, seed=0, start=fit.calibrated_ndcg)
    assert progress.history[0] == {"epoch": 0.0, "valid_ndcg": fit.calibrated_ndcg}
    assert validation_ndcg(task, ModelScorer(model)) == pytest.approx(fit.calibrated_ndcg, abs=1e-3)
    after = get_trainable_state(model) | get_trainable_state(reader.backbone)
    assert_same({name: after[name] for name in before}, before)
    torch.testing.assert_close(model.items.text, text, atol=1e-5, rtol=0)


@pytest.mark.parametrize("strategy", ["last_k", "full"])
def test_other_strategies_train_through_decoders_too(
    world: Log, tiny_gpt2: Path, tmp_path: Path, strategy: str
) -> None:
    task, reader = task_of(world, tmp_path), reader_of(tiny_gpt2, world, strategy)
    text = reader.backbone.encode(reader.tokens)
    model = fit_model("frozen", task, MODEL, replace(FROZEN, epochs=1), text=text, seed=0).model
    before = get_trainable_state(reader.backbone)
    gentle = replace(ADAPT, epochs=1, learning_rate=1e-3, backbone_learning_rate=1e-3)
    adapt_backbone(strategy, task, model, gentle, reader=reader, seed=0)
    last = max((tmp_path / "checkpoints" / f"by_time-{strategy}-0").iterdir())
    trained = load_file(last / "weights.safetensors")
    assert {f"backbone.{name}" for name in before} <= trained.keys()
    for name, weight in before.items():
        assert not torch.equal(trained[f"backbone.{name}"], weight), name


def test_strategies_share_the_fit_before_them_and_no_more(world: Log, tiny_bert: Path, tmp_path: Path) -> None:
    backbones = {strategy: reader_of(tiny_bert, world, strategy) for strategy in ("last_k", "full")}
    configs = [FinetuneConfig(DataConfig(), backbone=reader.backbone.config) for reader in backbones.values()]
    first, second = (make_task("by_time", world, config, Accelerator(cpu=True)).inputs for config in configs)
    assert first == second

    task, once = task_of(world, tmp_path), replace(ADAPT, epochs=1)
    text = backbones["full"].backbone.encode(backbones["full"].tokens)
    model = fit_model("frozen", task, MODEL, replace(FROZEN, epochs=0), text=text, seed=0).model
    adapt_backbone("adapt", task, model, once, reader=backbones["full"], seed=0)
    with pytest.raises(ConfigError, match="another configuration"):
        adapt_backbone("adapt", replace(task, resume=True), model, once, reader=backbones["last_k"], seed=0)


def test_every_process_reads_its_share_of_the_catalog(world: Log, tiny_bert: Path, tmp_path: Path) -> None:
    task, reader = task_of(world, tmp_path), reader_of(tiny_bert, world, "frozen")
    model = fit_model(
        "m", task, MODEL, replace(FROZEN, epochs=0), text=torch.zeros(len(world.catalog), 32), seed=0
    ).model
    RecommendationObjective(model, reader).refresh_text_table(task.accelerator)
    torch.testing.assert_close(model.items.text, reader.backbone.encode(reader.tokens), atol=1e-5, rtol=0)


class InterruptionError(Exception):
    pass


def test_resuming_gives_the_same_bits_and_the_same_table(
    world: Log, tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The table is no part of a checkpoint: it is read anew by the backbone as it was left."""

    def adapt(folder: str, **changes: object) -> dict[str, torch.Tensor]:
        torch.manual_seed(0)
        task, reader = task_of(world, tmp_path / folder), reader_of(tiny_bert, world)
        text = reader.backbone.encode(reader.tokens)
        model = fit_model("frozen", task, MODEL, replace(FROZEN, epochs=1), text=text, seed=0).model
        adapt_backbone("lora", replace(task, **changes), model, replace(ADAPT, epochs=2), reader=reader, seed=0)
        assert model.items.text is not None
        return get_trainable_state(model) | get_trainable_state(reader.backbone) | {"text": model.items.text}

    whole = adapt("whole")
    measure = Trainer._measure

    def cut_off(self: Trainer, loss: float, share: float) -> None:
        measure(self, loss, share)
        if self.objective.reader is not None and not self.progress.finished:
            raise InterruptionError

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_measure", cut_off)
        with pytest.raises(InterruptionError):
            adapt("parts")
    resumed = adapt("parts", resume=True)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_the_table_is_renewed_as_often_as_is_asked(
    world: Log, tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, reader = task_of(world, tmp_path), reader_of(tiny_bert, world)
    text = reader.backbone.encode(reader.tokens)
    model = fit_model("frozen", task, MODEL, replace(FROZEN, epochs=0), text=text, seed=0).model
    reader, steps = reader.with_hidden_state_cache(), [0]
    objective = RecommendationObjective(model, reader)
    often = replace(ADAPT, epochs=1, refresh_every_steps=2, evals_per_epoch=1)
    step = Trainer._step

    def checked(self: Trainer, group: list[Rows], row: int) -> float:
        if row % 2 == 0:  # the steps before were followed by a reading
            torch.testing.assert_close(model.items.text, reader.encode(np.arange(len(reader.tokens))))
            steps[0] += 1
        return step(self, group, row)

    monkeypatch.setattr(Trainer, "_step", checked)
    train("lora", task, objective, often, seed=0, validate=lambda: 0.0)
    assert steps[0] > 1
