"""What a benchmark's figures were measured on, and where they are written."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from json import dumps
from pathlib import Path
from typing import Any

import numpy as np
import torch


def describe() -> dict[str, str]:
    """Processor, GPU if there is one, threads in use and versions."""
    info = Path("/proc/cpuinfo")  # of Linux, which knows the name
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": names[0] if names else platform.processor(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "cores": str(os.cpu_count()),
        "threads": str(torch.get_num_threads()),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }


def write_record(path: Path | None, rows: Sequence[dict[str, Any]], machine: dict[str, str]) -> None:
    """As JSON, where a path is given."""
    if path is not None:
        path.write_text(dumps({"rows": rows, "machine": machine}, indent=1) + "\n", encoding="utf-8")
