"""How much memory a piece of work takes at most, beyond what was held before it. Of a CPU's, Linux alone tells this."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

PROCESS = Path("/proc/self")


@dataclass
class Peak:
    """mib: filled when the work is done; memory-mapped files count only as far as they were touched."""

    mib: float = 0.0


@contextmanager
def peak_memory(base_mib: float | None = None, device: str = "cpu") -> Iterator[Peak]:
    """The highest resident memory within the block, less `base_mib`, or what was resident at its start; on a GPU, of
    what tensors hold there."""
    peak = Peak()
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()
        base = torch.cuda.memory_allocated() / 2**20 if base_mib is None else base_mib
        yield peak
        peak.mib = torch.cuda.max_memory_allocated() / 2**20 - base
        return
    (PROCESS / "clear_refs").write_text("5", encoding="ascii")  # the high-water mark starts anew
    base = resident_mib() if base_mib is None else base_mib
    yield peak
    peak.mib = _status("VmHWM") / 1024 - base


def resident_mib() -> float:
    return _status("VmRSS") / 1024


def _status(name: str) -> int:
    """KiB."""
    lines = (PROCESS / "status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))
