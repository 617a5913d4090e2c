"""Each objective lowers its own held-out loss, trains what the strategy names, and resumes to the same bits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from accelerate import Accelerator
from torch import Tensor

from llmrec.backbones.adaptation import apply_strategy
from llmrec.backbones.lm_head import make_head
from llmrec.backbones.text_backbone import TextBackbone
from llmrec.config.backbone import BackboneConfig, LoraConfig, Strategy
from llmrec.config.checkpoints import CheckpointConfig
from llmrec.config.data import DataConfig
from llmrec.config.jobs.pretrain import ContrastConfig, ObjectiveName, PretrainConfig, PretrainTrainConfig
from llmrec.data.items.catalog import ItemCatalog
from llmrec.data.log import Log
from llmrec.data.synthetic_log import make_synthetic_log
from llmrec.errors import ConfigError
from llmrec.training.pretraining.corpus import make_corpus
from llmrec.training.pretraining.history_corpus import make_history_corpus
from llmrec.training.pretraining.pretrain_objectives import PretrainObjective
from llmrec.training.pretraining.pretrainer import Pretrainer, make_pretrain_tasks, make_run

STEPS = PretrainTrainConfig(
    max_steps=40,
    eval_every_steps=20,
    text_batch_size=16,
    pair_batch_size=32,
    learning_rate=3e-3,
    held_out_fraction=0.2,
    lr_scheduler="constant",
)


@pytest.fixture(scope="module")
def log() -> Log:
    """Topics of words, so that a word tells of its neighbors, and items of one topic follow each other."""
    log = make_synthetic_log(n_users=150, n_items=60, n_topics=4, events_per_user=8, seed=1)[0]
    words = [
        "cream face hair oil",
        "robot space war thriller",
        "river mountain garden night",
        "love drama romance title",
    ]
    topic = np.arange(60) % 4
    titles = [f"{words[t]} {words[t].split()[row % 3]} {row}" for row, t in enumerate(topic)]
    rng = np.random.default_rng(0)
    events = replace(log.interactions, item=rng.integers(0, 15, len(log.interactions)) * 4 + log.interactions.user % 4)
    catalog = ItemCatalog(pa.table({"item_id": log.catalog.ids.cast(pa.large_string()), "title": titles}))
    return replace(log, interactions=events, catalog=catalog)


def configure(path: Path, folder: Path, *objectives: ObjectiveName, strategy: Strategy = "full") -> PretrainConfig:
    backbone = BackboneConfig(
        name=str(path), hub_id="owner/tiny", strategy=strategy, last_k=1, lora=LoraConfig(rank=4), max_tokens=32
    )
    return PretrainConfig(
        DataConfig(),
        output=folder,
        objectives=dict.fromkeys(objectives, 1.0),
        backbone=backbone,
        contrast=ContrastConfig(n_negatives=16, temperature=0.1),
        train=STEPS,
    )


def pretrainer(log: Log, config: PretrainConfig) -> Pretrainer:
    torch.manual_seed(config.seed)
    backbone = TextBackbone.load(config.backbone)
    head = make_head(backbone, config.objectives)
    apply_strategy(backbone, config.backbone)
    histories = make_history_corpus(log, backbone, config) if "histories" in config.objectives else None
    tokens = backbone.tokenize(log.catalog.list_texts())
    readings = make_pretrain_tasks(make_corpus(log, config), tokens, backbone.tokenizer, config, histories=histories)
    objective = PretrainObjective(backbone, head, config.contrast.temperature)
    return Pretrainer(
        objective, readings, config.train, Accelerator(cpu=True), run=make_run(config, log.facts.fingerprint)
    )


def weights_of(trainer: Pretrainer) -> dict[str, Tensor]:
    return {name: weight.detach().clone() for name, weight in trainer.objective.named_parameters()}


CASES: list[tuple[str, tuple[ObjectiveName, ...]]] = [
    ("tiny_bert", ("mlm",)),
    ("tiny_gpt2", ("clm",)),
    ("tiny_llama", ("histories",)),
    ("tiny_bert", ("contrast",)),
    ("tiny_gpt2", ("contrast",)),
    ("tiny_bert", ("mlm", "contrast")),
]


@pytest.mark.parametrize(("model", "objectives"), CASES)
def test_held_out_losses_fall(
    log: Log, model: str, objectives: tuple[ObjectiveName, ...], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    trainer = pretrainer(log, configure(request.getfixturevalue(model), tmp_path, *objectives))
    before = trainer.measure_held_out()
    progress = trainer.fit()
    after = trainer.measure_held_out()
    assert set(after) == set(objectives)
    for name in objectives:
        assert after[name] < before[name] - 0.2, (name, before, after)
    assert sum(after.values()) == pytest.approx(-progress.best, rel=1e-4)  # the best weights are the ones left
    assert [point["step"] for point in progress.history] == [0, 20, 40]


@pytest.mark.parametrize("strategy", ["last_k", "lora", "full"])
def test_only_what_the_strategy_names_changes(log: Log, strategy: Strategy, tiny_bert: Path, tmp_path: Path) -> None:
    config = configure(tiny_bert, tmp_path, "mlm", "contrast", strategy=strategy)
    trainer = pretrainer(log, replace(config, train=replace(STEPS, max_steps=3)))
    before = weights_of(trainer)
    trainer.fit()
    named = {"last_k": "encoder.layer.1.", "lora": "lora_", "full": ""}[strategy]
    moved = {name for name, weight in weights_of(trainer).items() if not torch.equal(weight, before[name])}
    ours = {name for name in before if name.startswith("backbone.")}
    expected = {name for name in ours if named in name}
    unread = {name for name in expected if "position_embeddings" in name or "token_type" in name}
    assert expected - unread <= moved & ours <= expected
    assert moved - ours  # the head


def test_stopping_early_keeps_the_best(log: Log, tiny_bert: Path, tmp_path: Path) -> None:
    train = replace(STEPS, max_steps=200, eval_every_steps=1, patience=2, learning_rate=1.0, warmup_ratio=0.0)
    trainer = pretrainer(log, replace(configure(tiny_bert, tmp_path, "contrast"), train=train))
    before = weights_of(trainer)
    progress = trainer.fit()
    assert progress.step == 2
    assert progress.best_epoch == 0
    for name, weight in weights_of(trainer).items():
        assert torch.equal(weight, before[name])


@pytest.mark.parametrize("minutes", [None, 0.0])
def test_resuming_gives_the_same_bits(
    log: Log, tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, minutes: float | None
) -> None:
    config = configure(tiny_bert, tmp_path / "whole", "mlm", "contrast", strategy="lora")
    config = replace(config, train=replace(STEPS, max_steps=6, eval_every_steps=2))
    whole = pretrainer(log, config)
    whole.fit()

    config = replace(
        config, output=tmp_path / "cut", resume=True, checkpoints=CheckpointConfig(save_every_minutes=minutes)
    )
    cut = pretrainer(log, config)
    step = cut._step

    def failing(number: int) -> float:
        if number == 3:
            raise KeyboardInterrupt
        return step(number)

    monkeypatch.setattr(cut, "_step", failing)
    with pytest.raises(KeyboardInterrupt):
        cut.fit()
    torch.manual_seed(99)
    resumed = pretrainer(log, config)
    progress = resumed.fit()
    # the mean loss of a stretch is of the same steps; the checkpoint was taken at step 2 (or, with minutes, 3)
    assert progress.history == whole.progress.history
    for name, weight in weights_of(whole).items():
        assert torch.equal(weight, weights_of(resumed)[name]), name

    with pytest.raises(ConfigError, match="another configuration"):
        pretrainer(log, replace(config, seed=1)).fit()


def test_too_few_for_so_many_processes(log: Log, tiny_bert: Path, tmp_path: Path) -> None:
    config = configure(tiny_bert, tmp_path, "mlm")
    trainer = pretrainer(log, config)

    class Many:
        num_processes = 17
        device = torch.device("cpu")

    with pytest.raises(ConfigError, match="too few for 17 processes"):
        Pretrainer(trainer.objective, trainer.readings, config.train, Many(), run=trainer.run)  # type: ignore[arg-type]
