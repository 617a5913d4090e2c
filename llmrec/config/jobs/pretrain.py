"""The configuration of recipes/pretrain.py: what a backbone goes on reading before it is fine-tuned."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from llmrec.config.backbone import BackboneConfig
from llmrec.config.checkpoints import CheckpointConfig, Resume
from llmrec.config.data import DataConfig
from llmrec.config.split import SplitConfig
from llmrec.errors import ConfigError

ObjectiveName = Literal["mlm", "clm", "contrast"]


@dataclass(frozen=True)
class ContrastConfig:
    """Items that one user touched soon after each other, pulled together.

    window: events of a user that each one is paired with, counted onward.
    temperature: cosines are divided by it.
    n_negatives: items drawn uniformly in each step, beside the batch's own.
    """

    window: int = 3
    temperature: float = 0.05
    n_negatives: int = 128

    def __post_init__(self) -> None:
        if min(self.window, self.temperature) <= 0:
            raise ConfigError("contrast: window and temperature must be above 0")
        if self.n_negatives < 1:
            raise ConfigError(
                f"contrast.n_negatives={self.n_negatives}: a batch's own items alone punish the popular ones until "
                "vectors collapse; give at least 1, better 64 or more"
            )


@dataclass(frozen=True)
class PretrainTrainConfig:
    """How long and how fast; batches are those of a step of all processes together.

    max_steps: at most. eval_every_steps: steps between measurements of the held-out losses. patience: measurements
        without
        gain before it stops.
    text_batch_size: of `mlm` and `clm`. pair_batch_size: of `contrast`; each is read in both directions.
    learning_rate: of the backbone. head_learning_rate: of a language-model head.
    held_out_fraction: share of the texts, and share of the pairs at the training window's end, that is never trained
        on.
    max_held_out_samples: texts or pairs that a measurement looks at, a seeded sample where there are more.
    """

    max_steps: int = 2000
    eval_every_steps: int = 100
    patience: int = 3
    text_batch_size: int = 64
    pair_batch_size: int = 128
    learning_rate: float = 1e-4
    head_learning_rate: float = 1e-3
    weight_decay: float = 0.01
    warmup_ratio: float = 0.05
    lr_scheduler: Literal["constant", "linear", "cosine"] = "linear"
    max_grad_norm: float = 1.0
    held_out_fraction: float = 0.05
    max_held_out_samples: int = 1024

    def __post_init__(self) -> None:
        counts = (
            self.max_steps,
            self.eval_every_steps,
            self.patience,
            self.text_batch_size,
            self.pair_batch_size,
            self.max_held_out_samples,
        )
        if min(counts) < 1:
            raise ConfigError(
                "train: max_steps, eval_every_steps, patience, batch sizes and max_held_out_samples must be at least 1"
            )
        if not 0 < self.held_out_fraction < 1:
            raise ConfigError(f"train.held_out_fraction={self.held_out_fraction}: give a share between 0 and 1")


@dataclass(frozen=True)
class PretrainConfig:
    """recipes/pretrain.py: continued pretraining of a backbone on a domain's texts and interactions.

    objectives: a weight for each, of the mean loss of its terms: `mlm`, masked words, for encoders; `clm`, next words,
        for decoders; `contrast`, items of one user's neighbouring events, for both.
    split: as in the fine-tuning to come; only events in the training part of every split it names are looked at.
    all_items: also read texts of items without an event there, which a model in service would not have had yet.
    backbone: `last_k`, `lora` or `full`; a frozen one has nothing to train.
    output: the run's folder; `backbone/` in it is what `backbone.name` of finetune.py takes.
    mixed_precision, resume, checkpoints, trackers: as in finetune.py.
    """

    data: DataConfig
    output: Path = Path("runs/pretrain")
    objectives: dict[ObjectiveName, float] = field(default_factory=lambda: {"contrast": 1.0})
    split: SplitConfig = field(default_factory=SplitConfig)
    all_items: bool = False
    backbone: BackboneConfig = field(default_factory=lambda: BackboneConfig(strategy="last_k"))
    contrast: ContrastConfig = field(default_factory=ContrastConfig)
    train: PretrainTrainConfig = field(default_factory=PretrainTrainConfig)
    seed: int = 0
    mixed_precision: Literal["no", "bf16", "fp16"] | None = None
    resume: Resume = False
    checkpoints: CheckpointConfig = field(default_factory=CheckpointConfig)
    trackers: tuple[Literal["tensorboard", "trackio"], ...] = ()

    def __post_init__(self) -> None:
        unknown = sorted(set(self.objectives) - set(get_args(ObjectiveName)))
        if unknown or not self.objectives:
            raise ConfigError(f"objectives: {unknown or 'none given'}; known: {', '.join(get_args(ObjectiveName))}")
        if min(self.objectives.values()) <= 0:
            raise ConfigError(f"objectives={self.objectives}: weights must be above 0; leave out what should not train")
        if {"mlm", "clm"} <= set(self.objectives):
            raise ConfigError("objectives: mlm is for encoders and clm for decoders; a backbone is one of them")
        if self.backbone.strategy in ("none", "frozen"):
            raise ConfigError(
                f"backbone.strategy={self.backbone.strategy}: it leaves nothing to train; give last_k, lora or full"
            )
