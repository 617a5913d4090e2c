"""Decide when a training loop writes a checkpoint between two measurements, and when a preempted run ends."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any

import torch
from accelerate import Accelerator

from llmrec.errors import RunInterruptedError


class PreemptionGuard:
    """Context of a training loop that delays SIGTERM to the end of a step.

    The loop calls `poll` after each step.

    Args:
        minutes: Minutes between checkpoints, see `CheckpointConfig`; None for none in between.
        accelerator: Processes of the run.
    """

    def __init__(self, minutes: float | None, accelerator: Accelerator) -> None:
        self.seconds = float("inf") if minutes is None else 60 * minutes
        self.accelerator, self.stop_requested, self.saved_at = accelerator, False, time.monotonic()
        self.before: Any = None

    def __enter__(self) -> PreemptionGuard:
        if threading.current_thread() is threading.main_thread():  # others may not set handlers
            self.before = signal.signal(signal.SIGTERM, self._handle_signal)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self.before is not None:
            signal.signal(signal.SIGTERM, self.before)
        if self.stop_requested and kind is None:  # the loop is over: end before the code that follows it
            signal.raise_signal(signal.SIGTERM)

    def _handle_signal(self, number: int, frame: FrameType | None) -> None:
        self.stop_requested = True

    def mark_saved(self) -> None:
        """Start counting the minutes to the next checkpoint."""
        self.saved_at = time.monotonic()

    def poll(self) -> tuple[bool, bool]:
        """Return if a checkpoint is due and if the run ends after it; all processes agree.

        Returns:
            Both answers.
        """
        due, ends = self.stop_requested or time.monotonic() - self.saved_at >= self.seconds, self.stop_requested
        if self.accelerator.num_processes > 1:
            votes = torch.tensor([due, ends], dtype=torch.float32, device=self.accelerator.device)
            due, ends = (self.accelerator.reduce(votes, "sum") > 0).tolist()
        return due, ends


def make_interrupted_error(name: str, step: int) -> RunInterruptedError:
    """Make the error with which a preempted run ends.

    Args:
        name: Name of the fit.
        step: Last completed step.

    Returns:
        The error.
    """
    return RunInterruptedError(
        f"{name}: stopped after step {step}; what is done is saved, and --resume true goes on from it"
    )
