"""Settings of the checkpoints from which a run continues."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from llmrec.errors import ConfigError

Resume = bool | Literal["auto"]


@dataclass(frozen=True)
class CheckpointConfig:
    """Checkpoints from which a stopped run continues to the same bits."""

    save_total_limit: int = 2
    """Number of newest checkpoints to keep; a damaged one falls back to the one before."""
    save_every_minutes: float | None = 15.0
    """Minutes after which a checkpoint is written inside an epoch; null: at validations only."""

    def __post_init__(self) -> None:
        if self.save_total_limit < 1:
            raise ConfigError(f"checkpoints.save_total_limit={self.save_total_limit}: give at least 1, better 2")
        if self.save_every_minutes is not None and self.save_every_minutes < 0:
            raise ConfigError(
                f"checkpoints.save_every_minutes={self.save_every_minutes}: give 0 (after every step) or more, or null"
            )
