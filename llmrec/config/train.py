"""The configuration of one run of the training loop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from llmrec.errors import ConfigError


@dataclass(frozen=True)
class TrainConfig:
    """One run of the training loop. Batches are counted in targets, so that each target weighs the same.

    epochs: 0 skips the run. patience: measurements without gain before it stops.
    negatives: `full` softmax over the catalog, or the number of shared uniform negatives.
    trainable_items_per_step, backbone_learning_rate: where the backbone itself trains, the items that all processes of
        a step read
        through it with gradients, together, and its own learning rate.
    refresh_every_steps: there, after how many steps the whole catalog is read anew; null: only before each validation.
    micro_batches: that a process runs its share of a batch in, one by one: the same step in less memory; `auto`: few
        that fit.
    refit: after the best epoch is known, train anew on train + validation for as long, before the test.
    """

    epochs: int = 50
    patience: int = 5
    batch_targets: int = 1024
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    warmup_ratio: float = 0.02
    lr_scheduler: Literal["constant", "linear", "cosine"] = "constant"
    max_grad_norm: float = 5.0
    gradient_accumulation_steps: int = 1
    negatives: Literal["full"] | int = "full"
    evals_per_epoch: int = 1
    trainable_items_per_step: int = 256
    backbone_learning_rate: float = 2e-4
    refresh_every_steps: int | None = None
    micro_batches: Literal["auto"] | int = 1
    refit: bool = False

    def __post_init__(self) -> None:
        if self.micro_batches != "auto" and self.micro_batches < 1:
            raise ConfigError(f"train.micro_batches={self.micro_batches}: give auto, or 1 or more")
