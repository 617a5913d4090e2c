"""A planted log on disk and a run on it with the tiny BERT."""

from pathlib import Path

import pytest

from llmrec.config.backbone import BackboneConfig, LoraConfig
from llmrec.config.data import DataConfig
from llmrec.config.evaluation import EvaluationConfig
from llmrec.config.jobs.finetune import FinetuneConfig
from llmrec.config.model import ModelConfig
from llmrec.config.train import TrainConfig


@pytest.fixture
def config(log_folder: str, tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FinetuneConfig:
    monkeypatch.setenv("LLMREC_CACHE", str(tmp_path / "cache"))
    return FinetuneConfig(
        DataConfig(source=log_folder),
        output=tmp_path / "run",
        backbone=BackboneConfig(name=str(tiny_bert), last_k=1, lora=LoraConfig(rank=2, last_k=1)),
        model=ModelConfig(dim=8, max_history=4),
        train=TrainConfig(epochs=3, batch_targets=16, evals_per_epoch=2),
        adapt=TrainConfig(epochs=2, batch_targets=16, trainable_items_per_step=8, refresh_every_steps=2),
        evaluation=EvaluationConfig(baselines=("popularity", "sasrec"), bootstrap_samples=20, n_explained_users=0),
    )
