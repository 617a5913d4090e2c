"""When a training loop writes a checkpoint between two measurements, and when it ends before its time."""

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
    """Used around a loop, which asks `poll` after each step. A process that is told to end by SIGTERM in the meantime,
    as preempted ones are, goes on to the end of its step.

    minutes: see `CheckpointConfig`.
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
        if self.stop_requested and kind is None:  # the loop was over by then: whatever comes after it is not waited for
            signal.raise_signal(signal.SIGTERM)

    def _handle_signal(self, number: int, frame: FrameType | None) -> None:
        self.stop_requested = True

    def mark_saved(self) -> None:
        self.saved_at = time.monotonic()

    def poll(self) -> tuple[bool, bool]:
        """Whether a checkpoint is due, and whether the run ends after it; all processes agree."""
        due, told = self.stop_requested or time.monotonic() - self.saved_at >= self.seconds, self.stop_requested
        if self.accelerator.num_processes > 1:
            asked = torch.tensor([due, told], dtype=torch.float32, device=self.accelerator.device)
            due, told = (self.accelerator.reduce(asked, "sum") > 0).tolist()
        return due, told


def make_interrupted_error(name: str, step: int) -> RunInterruptedError:
    return RunInterruptedError(
        f"{name}: told to end after step {step}; what is done is saved, and --resume true goes on from it"
    )
