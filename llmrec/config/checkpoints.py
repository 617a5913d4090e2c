"""What a run keeps to go on from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from llmrec.errors import ConfigError

Resume = bool | Literal["auto"]


@dataclass(frozen=True)
class CheckpointConfig:
    """Checkpoints of each fit of a run, by which `resume` goes on to the same bits.

    save_total_limit: the newest ones; where one is damaged, the run goes on from the one before it.
    save_every_minutes: after so many without one a checkpoint is written in the midst of an epoch; null: only where
        validation is
        measured. A process that is told to end (SIGTERM) writes one, too.
    """

    save_total_limit: int = 2
    save_every_minutes: float | None = 15.0

    def __post_init__(self) -> None:
        if self.save_total_limit < 1:
            raise ConfigError(f"checkpoints.save_total_limit={self.save_total_limit}: give at least 1, better 2")
        if self.save_every_minutes is not None and self.save_every_minutes < 0:
            raise ConfigError(
                f"checkpoints.save_every_minutes={self.save_every_minutes}: give 0 (after every step) or more, or null"
            )
