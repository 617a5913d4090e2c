"""The configuration of one run of the training loop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from llmrec.errors import ConfigError


@dataclass(frozen=True)
class TrainConfig:
    """One run of the training loop; batches are counted in targets, so that each weighs the same."""

    epochs: int = 50
    """Passes over the training part, at most; 0 skips the run."""
    patience: int = 5
    """Validations without gain before training stops."""
    batch_targets: int = 1024
    """Targets of a step, of all processes together."""
    learning_rate: float = 1e-3
    """Learning rate of the recommender's own layers."""
    weight_decay: float = 0.0
    """Weight decay of AdamW."""
    warmup_ratio: float = 0.02
    """Share of the steps over which the learning rate grows from 0."""
    lr_scheduler: Literal["constant", "linear", "cosine"] = "constant"
    """Course of the learning rate after the warm-up."""
    max_grad_norm: float = 5.0
    """Norm at which gradients are clipped."""
    gradient_accumulation_steps: int = 1
    """Batches whose gradients are added before a step."""
    negatives: Literal["full"] | int = "full"
    """full for a softmax over the catalog, or the number of shared uniform negatives."""
    evals_per_epoch: int = 1
    """Validations in each epoch."""
    trainable_items_per_step: int = 256
    """Items of a step that the trained backbone reads with gradients, in all processes."""
    backbone_learning_rate: float = 2e-4
    """Learning rate of the backbone."""
    refresh_every_steps: int | None = None
    """Steps after which a trained backbone reads the catalog again; null: before validations only."""
    micro_batches: Literal["auto"] | int = 1
    """Parts in which a process runs its share of a batch, to save memory; auto finds how many."""
    refit: bool = False
    """Train again on training and validation part, as long as was best, before the test."""

    def __post_init__(self) -> None:
        if self.micro_batches != "auto" and self.micro_batches < 1:
            raise ConfigError(f"train.micro_batches={self.micro_batches}: give auto, or 1 or more")
