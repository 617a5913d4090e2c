"""Settings of recipes/pretrain.py, which continues the pretraining of a backbone before fine-tuning."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, get_args

from llmrec.config.backbone import BackboneConfig
from llmrec.config.checkpoints import CheckpointConfig, Resume
from llmrec.config.data import DataConfig
from llmrec.config.split import SplitConfig
from llmrec.config.validation import Bounds
from llmrec.errors import ConfigError

ObjectiveName = Literal["mlm", "clm", "contrast"]


@dataclass(frozen=True)
class ContrastConfig:
    """Contrast that brings the vectors of items together that a user chose soon after each other."""

    window: int = 3
    """Number of following events that each event is paired with."""
    temperature: float = 0.05
    """Temperature that divides cosines."""
    n_negatives: int = 128
    """Items drawn uniformly in each step, in addition to the batch's own."""

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
    """Length and speed of pretraining; batches are those of all processes together."""

    max_steps: int = 2000
    """Steps, at most."""
    eval_every_steps: int = 100
    """Steps between measurements of the held-out losses."""
    patience: int = 3
    """Measurements without gain before training stops."""
    text_batch_size: int = 64
    """Texts of a step of mlm and clm."""
    pair_batch_size: int = 128
    """Pairs of a step of contrast, each read in both directions."""
    learning_rate: float = 1e-4
    """Learning rate of the backbone."""
    head_learning_rate: float = 1e-3
    """Learning rate of a language-model head."""
    weight_decay: float = 0.01
    """Weight decay of AdamW."""
    warmup_ratio: float = 0.05
    """Share of the steps over which the learning rate grows from 0."""
    lr_scheduler: Literal["constant", "linear", "cosine"] = "linear"
    """Schedule of the learning rate after the warm-up."""
    max_grad_norm: float = 1.0
    """Norm at which gradients are clipped."""
    held_out_fraction: float = 0.05
    """Share of the texts, and of the newest pairs, that measure the loss."""
    max_held_out_samples: int = 1024
    """Texts or pairs of a measurement; a seeded sample if there are more."""

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
    """Continue the pretraining of a backbone on a domain's texts and events."""

    data: DataConfig
    """The log."""
    output: Path = Path("runs/pretrain")
    """Folder of the run; pass its backbone/ to training as backbone.name."""
    objectives: dict[ObjectiveName, float] = field(default_factory=lambda: {"contrast": 1.0})
    """Weight of each objective: mlm for encoders, clm for decoders, contrast for both."""
    split: SplitConfig = field(default_factory=SplitConfig)
    """Split of the later training; only its training part is used."""
    all_items: bool = False
    """Also train on texts of items without an event in the training part."""
    backbone: BackboneConfig = field(default_factory=lambda: BackboneConfig(strategy="last_k"))
    """Backbone and strategy: last_k, lora or full."""
    contrast: ContrastConfig = field(default_factory=ContrastConfig)
    """Pairs of the objective contrast."""
    train: PretrainTrainConfig = field(default_factory=PretrainTrainConfig)
    """Length and speed."""
    seed: Annotated[int, Bounds(0, 2**32 - 1)] = 0
    """Seed of all random draws."""
    mixed_precision: Literal["no", "bf16", "fp16"] | None = None
    """Precision of training; null: as the launcher says."""
    resume: Resume = False
    """Continue from the folder's checkpoints: true, false, or auto to start again if they do not fit."""
    checkpoints: CheckpointConfig = field(default_factory=CheckpointConfig)
    """How often to write checkpoints."""
    trackers: tuple[Literal["tensorboard", "trackio"], ...] = ()
    """Experiment trackers to log to (extra: tracking)."""

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
