"""A backbone learns items: held-out ones are ranked better, the best weights stay, and a resumed run gives the same."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from llmrec.backbones.adaptation import apply_strategy
from llmrec.backbones.catalog_encoder import CatalogEncoder
from llmrec.backbones.text_backbone import TextBackbone
from llmrec.config.adaptation import ItemAdaptConfig
from llmrec.config.backbone import BackboneConfig, LoraConfig, Strategy
from llmrec.config.data import DataConfig
from llmrec.config.jobs.finetune import FinetuneConfig
from llmrec.config.model import ModelConfig
from llmrec.config.train import TrainConfig
from llmrec.data.items.field_dropout import drop_fields
from llmrec.data.log import Log
from llmrec.data.synthetic_log import make_synthetic_log
from llmrec.training.checkpoints import Progress
from llmrec.training.item_adaptation.adapt_items import adapt_items
from llmrec.training.task import make_task
from llmrec.training.two_stage import fit_model

ITEMS = ItemAdaptConfig(
    epochs=6, evals=3, items_per_step=32, learning_rate=5e-3, n_negatives=16, n_hard_negatives=8, anchor=0.01
)


@pytest.fixture(scope="module")
def log() -> Log:
    return make_synthetic_log(n_users=150, n_items=120, events_per_user=12)[0]


def run(
    log: Log, path: Path, folder: Path, items: ItemAdaptConfig, *, strategy: Strategy = "full", resume: bool = False
) -> tuple[Progress, CatalogEncoder]:
    backbone = BackboneConfig(str(path), "owner/tiny", strategy=strategy, last_k=1, lora=LoraConfig(rank=4))
    config = FinetuneConfig(
        DataConfig(),
        folder,
        backbone=backbone,
        model=ModelConfig(dim=8),
        train=TrainConfig(epochs=2, batch_targets=128),
        resume=resume,
    )
    task = make_task("by_time", log, config, Accelerator(cpu=True))
    loaded = TextBackbone.load(backbone)
    reader = CatalogEncoder.from_texts(loaded, log.catalog.list_texts())
    text = reader.encode(np.arange(log.n_items))
    fitted = fit_model("fit", replace(task, resume=False), config.model, config.train, text=text, seed=0)
    apply_strategy(loaded, backbone)
    short = drop_fields(log.catalog, 0.4, 0)
    progress = adapt_items("items", task, items, reader=reader, model=fitted.model, second_texts=short, seed=0)
    return progress, reader


@pytest.mark.parametrize("method", ["align", "contrast"])
def test_held_out_items_are_ranked_better(method: Any, log: Log, tiny_bert: Path, tmp_path: Path) -> None:
    progress, reader = run(log, tiny_bert, tmp_path, replace(ITEMS, method=method))
    values = [point["held_out_items_ndcg"] for point in progress.history]
    assert progress.best == max(values) > values[0] + 0.02
    assert len(values) <= 4
    with torch.no_grad():
        again = reader.encode(np.arange(log.n_items))
    assert torch.isfinite(again).all()


@pytest.mark.parametrize("strategy", ["last_k", "lora"])
def test_only_what_the_strategy_names_changes(strategy: Strategy, log: Log, tiny_bert: Path, tmp_path: Path) -> None:
    _, reader = run(log, tiny_bert, tmp_path, ITEMS, strategy=strategy)
    before = TextBackbone.load(BackboneConfig(str(tiny_bert), "owner/tiny")).model.state_dict()
    named = {"last_k": "encoder.layer.1.", "lora": "lora_"}[strategy]
    for name, weight in reader.backbone.model.state_dict().items():
        plain = name.removeprefix("base_model.model.").replace(".base_layer", "")
        if named not in name:
            torch.testing.assert_close(weight, before[plain], rtol=0, atol=0)


def test_a_resumed_run_gives_the_same_bits(log: Log, tiny_bert: Path, tmp_path: Path) -> None:
    whole, first = run(log, tiny_bert, tmp_path, ITEMS)
    newest = max((tmp_path / "checkpoints").glob("*/step-*"))
    shutil.rmtree(newest)
    again, second = run(log, tiny_bert, tmp_path, ITEMS, resume=True)
    assert again.history == whole.history
    assert again.step == whole.step
    for one, other in zip(first.backbone.parameters(), second.backbone.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)
