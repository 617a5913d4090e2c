"""A backbone learns items: held-out ones are ranked better, the best weights stay, and a resumed run gives the same."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers

from llmrec.backbones.adaptation import apply_strategy
from llmrec.backbones.catalog_encoder import CatalogEncoder
from llmrec.backbones.static_model import EMBEDDING, unpack_static
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
    """A log whose users keep to one topic, four times of five; titles have two words of it among eight others."""
    made, truth = make_synthetic_log(n_users=200, n_items=160, events_per_user=12)
    rng, events = np.random.default_rng(0), made.interactions
    by_topic = [np.flatnonzero(truth.item_topic == topic) for topic in range(6)]
    own = np.array([rng.choice(by_topic[user % 6]) for user in events.user])
    item = np.where(rng.random(len(own)) < 0.8, own, rng.integers(0, made.n_items, len(own)))
    return replace(made, interactions=replace(events, item=item))


def run(
    log: Log, path: Path, folder: Path, items: ItemAdaptConfig, *, strategy: Strategy = "full", resume: bool = False
) -> tuple[Progress, CatalogEncoder]:
    backbone = BackboneConfig(str(path), "owner/tiny", strategy=strategy, last_k=1, lora=LoraConfig(rank=4))
    config = FinetuneConfig(
        DataConfig(),
        folder,
        backbone=backbone,
        model=ModelConfig(dim=8),
        train=TrainConfig(epochs=12, batch_targets=128, learning_rate=1e-2),
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


@pytest.fixture
def words(log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Random vectors of the catalog's words: which of them matter can only be learned from the log."""
    monkeypatch.setenv("LLMREC_CACHE", str(tmp_path / "cache"))
    known = sorted({word for text in log.catalog.list_texts() for word in text.split()})
    tokenizer = Tokenizer(models.WordLevel({word: row for row, word in enumerate(["<unk>", *known])}, "<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(tmp_path / "words.json"))
    matrix = torch.tensor(np.random.default_rng(0).normal(size=(len(known) + 1, 16))).float()
    save_file({EMBEDDING: matrix}, tmp_path / "words.safetensors")
    return unpack_static(tmp_path / "words.safetensors", tmp_path / "words.json")


@pytest.mark.parametrize("method", ["align", "contrast"])
def test_held_out_items_are_ranked_better(method: Any, log: Log, words: Path, tmp_path: Path) -> None:
    items = replace(ITEMS, method=method, learning_rate=0.1, epochs=10)
    progress, reader = run(log, words, tmp_path, items)
    values = [point["held_out_items_ndcg"] for point in progress.history]
    assert progress.best == max(values) > values[0] + 0.1
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
