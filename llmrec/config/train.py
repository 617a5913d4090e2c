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
    live_items, backbone_learning_rate: where the backbone itself trains, the items that all processes of a step read
        through it with gradients, together, and its own learning rate.
    renew_steps: there, after how many steps the whole catalog is read anew; null: only before each validation.
    pieces: that a process runs its share of a batch in, one by one: the same step in less memory; `auto`: few that fit.
    refit: after the best epoch is known, train anew on train + validation for as long, before the test.
    """

    epochs: int = 50
    patience: int = 5
    batch_targets: int = 1024
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    warmup_share: float = 0.02
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    clip_norm: float = 5.0
    accumulate: int = 1
    negatives: Literal["full"] | int = "full"
    evals_per_epoch: int = 1
    live_items: int = 256
    backbone_learning_rate: float = 2e-4
    renew_steps: int | None = None
    pieces: Literal["auto"] | int = 1
    refit: bool = False

    def __post_init__(self) -> None:
        if self.pieces != "auto" and self.pieces < 1:
            raise ConfigError(f"train.pieces={self.pieces}: give auto, or 1 or more")
