"""Settings of one run of the training loop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from llmrec.config.validation import COUNT_FROM_0, COUNT_FROM_1, POSITIVE, SHARE, Bounds


@dataclass(frozen=True)
class TrainConfig:
    """One run of the training loop; batches are counted in targets, so that each weighs the same."""

    epochs: Annotated[int, COUNT_FROM_0] = 50
    """Passes over the training part, at most; 0 skips the run."""
    patience: Annotated[int, COUNT_FROM_1] = 5
    """Validations without gain before training stops."""
    batch_targets: Annotated[int, COUNT_FROM_1] = 1024
    """Targets of a step, of all processes together."""
    learning_rate: Annotated[float, POSITIVE] = 1e-3
    """Learning rate of the recommender's own layers."""
    weight_decay: Annotated[float, Bounds(0)] = 0.0
    """Weight decay of AdamW."""
    warmup_ratio: Annotated[float, SHARE] = 0.02
    """Share of the steps over which the learning rate grows from 0."""
    lr_scheduler: Literal["constant", "linear", "cosine"] = "constant"
    """Schedule of the learning rate after the warm-up."""
    max_grad_norm: Annotated[float, POSITIVE] = 5.0
    """Norm at which gradients are clipped."""
    gradient_accumulation_steps: Annotated[int, COUNT_FROM_1] = 1
    """Batches whose gradients are added before a step."""
    negatives: Annotated[Literal["full"] | int, COUNT_FROM_1] = "full"
    """full for a softmax over the catalog, or the number of shared uniform negatives."""
    evals_per_epoch: Annotated[int, COUNT_FROM_1] = 1
    """Validations in each epoch."""
    trainable_items_per_step: Annotated[int, COUNT_FROM_1] = 256
    """Items of a step that the trained backbone encodes with gradients, in all processes."""
    backbone_learning_rate: Annotated[float, POSITIVE] = 2e-4
    """Learning rate of the backbone."""
    refresh_every_steps: Annotated[int | None, COUNT_FROM_1] = None
    """Steps after which a trained backbone encodes the catalog again; null: before validations only."""
    micro_batches: Annotated[Literal["auto"] | int, COUNT_FROM_1] = 1
    """Micro-batches of a process's share of a batch, to save memory; auto finds how many."""
    refit: bool = False
    """Train again on training and validation part, for the best number of epochs, before the test."""
