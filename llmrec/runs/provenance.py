"""Collect the command, commit, machine and versions of a run."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from llmrec.utils.reproducibility import are_products_reproducible
from llmrec.utils.versions import get_package_versions


def collect_provenance(accelerator: Accelerator) -> dict[str, Any]:
    """Collect the command, commit, machine and versions that the numbers of a run depend on.

    Args:
        accelerator: Processes of the run.

    Returns:
        Facts by name.
    """
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return {
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "commit": _commit(),
        "machine": f"{_get_processor()}, {os.cpu_count()} cores, {_get_memory()}, {gpu}",
        "processes": accelerator.num_processes,
        "threads": torch.get_num_threads(),
        "precision": accelerator.mixed_precision,
        "reproducible_products": are_products_reproducible(),
        "versions": get_package_versions(),
    }


@cache
def _commit() -> str:
    """Return the commit of the source tree, with a `+` if it has uncommitted changes."""
    here = Path(__file__).parent
    try:
        commit = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], cwd=here, capture_output=True, text=True, check=True
        ).stdout.strip()
        changed = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no"],
            cwd=here,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "not in a git checkout"
    return commit + ("+" if changed else "")


def _get_processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _get_memory() -> str:
    try:
        return f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.0f} GiB"
    except (AttributeError, OSError, ValueError):  # not a POSIX system
        return "unknown memory"
