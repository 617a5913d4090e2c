"""What a run keeps to go on from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from llmrec.errors import ConfigError

Resume = bool | Literal["matching"]


@dataclass(frozen=True)
class CheckpointConfig:
    """Checkpoints of each fit of a run, by which `resume` goes on to the same bits.

    kept: the newest ones; where one is damaged, the run goes on from the one before it.
    minutes: after so many without one a checkpoint is written in the midst of an epoch; null: only where validation is
        measured. A process that is told to end (SIGTERM) writes one, too.
    """

    kept: int = 2
    minutes: float | None = 15.0

    def __post_init__(self) -> None:
        if self.kept < 1:
            raise ConfigError(f"checkpoints.kept={self.kept}: give at least 1, better 2")
        if self.minutes is not None and self.minutes < 0:
            raise ConfigError(f"checkpoints.minutes={self.minutes}: give 0 (after every step) or more, or null")
