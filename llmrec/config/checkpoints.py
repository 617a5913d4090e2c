"""Settings of the checkpoints from which a run continues."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from llmrec.config.validation import COUNT_FROM_1, Bounds

Resume = bool | Literal["auto"]


@dataclass(frozen=True)
class CheckpointConfig:
    """Checkpoints from which a stopped run continues to the same bits."""

    save_total_limit: Annotated[int, COUNT_FROM_1] = 2
    """Number of newest checkpoints to keep; a damaged one falls back to the one before."""
    save_every_minutes: Annotated[float | None, Bounds(0)] = 15.0
    """Minutes after which a checkpoint is written inside an epoch; null: at validations only."""
