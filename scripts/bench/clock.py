"""What a piece of work takes: CPU seconds of this process, or on a GPU the seconds until it has done all of it."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch


def seconds_of(work: Callable[[], object], device: str = "cpu") -> float:
    if device == "cpu":
        began = time.process_time()
        work()
        return time.process_time() - began
    torch.cuda.synchronize()
    began = time.perf_counter()
    work()
    torch.cuda.synchronize()
    return time.perf_counter() - began


def unit_of(device: str, part: str = "ms") -> str:
    """`part`: of a second."""
    return f"CPU {part}" if device == "cpu" else part
