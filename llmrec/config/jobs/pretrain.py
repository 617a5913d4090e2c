"""Settings of recipes/pretrain.py, which continues the pretraining of a backbone before fine-tuning."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, get_args

from llmrec.config.adaptation import ItemAdaptConfig
from llmrec.config.backbone import BackboneConfig
from llmrec.config.checkpoints import CheckpointConfig, Resume
from llmrec.config.data import DataConfig
from llmrec.config.model import HistoryTextConfig
from llmrec.config.order_only import choose_splits
from llmrec.config.split import SplitConfig
from llmrec.config.validation import COUNT_FROM_1, PART, POSITIVE, SHARE, Bounds
from llmrec.errors import ConfigError

ObjectiveName = Literal["mlm", "clm", "histories", "contrast", "items"]


@dataclass(frozen=True)
class ContrastConfig:
    """Contrast that brings the vectors of items together that a user chose soon after each other."""

    window: Annotated[int, COUNT_FROM_1] = 3
    """Number of following events that each event is paired with."""
    temperature: Annotated[float, POSITIVE] = 0.05
    """Temperature that divides cosines."""
    n_negatives: Annotated[int, COUNT_FROM_1] = 128
    """Items drawn uniformly in each step, in addition to the batch's own, which alone make vectors collapse."""


@dataclass(frozen=True)
class PretrainTrainConfig:
    """Length and speed of pretraining; batches are those of all processes together."""

    max_steps: Annotated[int, COUNT_FROM_1] = 2000
    """Steps, at most."""
    eval_every_steps: Annotated[int, COUNT_FROM_1] = 100
    """Steps between measurements of the held-out losses."""
    patience: Annotated[int, COUNT_FROM_1] = 3
    """Measurements without gain before training stops."""
    text_batch_size: Annotated[int, COUNT_FROM_1] = 64
    """Texts of a step of mlm, clm and histories."""
    pair_batch_size: Annotated[int, COUNT_FROM_1] = 128
    """Pairs of a step of contrast, each read in both directions."""
    learning_rate: Annotated[float, POSITIVE] = 1e-4
    """Learning rate of the backbone."""
    head_learning_rate: Annotated[float, POSITIVE] = 1e-3
    """Learning rate of a language-model head."""
    weight_decay: Annotated[float, Bounds(0)] = 0.01
    """Weight decay of AdamW."""
    warmup_ratio: Annotated[float, SHARE] = 0.05
    """Share of the steps over which the learning rate grows from 0."""
    lr_scheduler: Literal["constant", "linear", "cosine"] = "linear"
    """Schedule of the learning rate after the warm-up."""
    max_grad_norm: Annotated[float, POSITIVE] = 1.0
    """Norm at which gradients are clipped."""
    held_out_fraction: Annotated[float, PART] = 0.05
    """Share of the texts, and of the newest pairs, that measure the loss."""
    max_held_out_samples: Annotated[int, COUNT_FROM_1] = 1024
    """Texts or pairs of a measurement; a seeded sample if there are more."""


@dataclass(frozen=True)
class PretrainConfig:
    """Continue the pretraining of a backbone on a domain's texts and events."""

    data: DataConfig
    """The log."""
    output: Path = Path("runs/pretrain")
    """Folder of the run; pass its backbone/ to training as backbone.name."""
    objectives: dict[ObjectiveName, float] = field(default_factory=lambda: {"contrast": 1.0})
    """Weight of each objective: mlm for encoders, clm (words of items) and histories (words of the next items) for
    decoders, contrast for both. items, by itself: the contrast of adapt_items, which held-out items judge."""
    split: SplitConfig = field(default_factory=SplitConfig)
    """Split of the later training; only its training part is used."""
    all_items: bool = False
    """Also train on texts of items without an event in the training part."""
    backbone: BackboneConfig = field(default_factory=lambda: BackboneConfig(strategy="last_k"))
    """Backbone and strategy: last_k, lora, peft or full."""
    contrast: ContrastConfig = field(default_factory=ContrastConfig)
    """Pairs of the objective contrast."""
    adapt_items: ItemAdaptConfig = field(default_factory=lambda: ItemAdaptConfig(method="contrast"))
    """Training of the objective items."""
    history_text: HistoryTextConfig = field(default_factory=HistoryTextConfig)
    """Text of a history for the objective histories."""
    window_items: Annotated[int, Bounds(2, 2**20)] = 10
    """Items of a history that make one text of the objective histories."""
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
        object.__setattr__(self, "split", choose_splits(self.split, self.data))
        unknown = sorted(set(self.objectives) - set(get_args(ObjectiveName)))
        if unknown or not self.objectives:
            raise ConfigError(f"objectives: {unknown or 'none given'}; known: {', '.join(get_args(ObjectiveName))}")
        if min(self.objectives.values()) <= 0:
            raise ConfigError(f"objectives={self.objectives}: weights must be above 0; leave out what should not train")
        if "mlm" in self.objectives and {"clm", "histories"} & set(self.objectives):
            raise ConfigError(
                "objectives: mlm is for encoders, clm and histories are for decoders; a backbone is one of them"
            )
        if "items" in self.objectives and (len(self.objectives) > 1 or self.adapt_items.method != "contrast"):
            raise ConfigError(
                "objectives: items goes by itself, with adapt_items.method contrast; align needs a fitted recommender"
            )
        if self.backbone.quantize is not None:
            raise ConfigError(
                "backbone.quantize: pretraining writes plain weights, and adapters cannot be merged into few bits; "
                "leave it out"
            )
        if self.backbone.strategy in ("none", "frozen"):
            raise ConfigError(
                f"backbone.strategy={self.backbone.strategy}: it leaves nothing to train; give last_k, lora, peft or "
                "full"
            )
