"""Where a run's time and memory go, phase by phase."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

ALL = "all"


class Timer:
    """Seconds of each phase of this process, wall and CPU, and of everything so far; phases of one name add up."""

    def __init__(self) -> None:
        self.began = read_clock()
        self._spent: dict[str, tuple[float, float, float]] = {}

    @contextmanager
    def section(self, name: str) -> Iterator[None]:
        began = read_clock()
        try:
            yield
        finally:
            spent, before = elapsed_since(began), self._spent.get(name, (0.0, 0.0))
            self._spent[name] = before[0] + spent[0], before[1] + spent[1], peak_memory_mib()

    def to_record(self) -> list[dict[str, Any]]:
        """Of JSON types, in the order in which phases first ended; the last one is `all`.

        peak_memory_mib: the most memory that the process has taken by the end of a phase, since it started.
        """
        everything = {**self._spent, ALL: (*elapsed_since(self.began), peak_memory_mib())}
        return [
            {"phase": name, "wall": round(wall, 2), "cpu": round(cpu, 2), "peak_mib": round(peak)}
            for name, (wall, cpu, peak) in everything.items()
        ]


def read_clock() -> tuple[float, float]:
    """Seconds, of the wall and of this process's CPU."""
    return time.monotonic(), time.process_time()


def elapsed_since(began: tuple[float, float]) -> tuple[float, float]:
    wall, cpu = read_clock()
    return wall - began[0], cpu - began[1]


def peak_memory_mib() -> float:
    """The most memory this process has taken: of the GPU if there is one, else resident; 0 where it cannot be told."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_reserved() / 2**20
    try:
        import resource
    except ImportError:  # Windows
        return 0.0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
