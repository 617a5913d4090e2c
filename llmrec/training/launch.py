"""How a run starts and what it records of itself."""

from __future__ import annotations

import dataclasses
import os
import platform
import subprocess
import sys
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.utils import InitProcessGroupKwargs, set_seed

from llmrec.config import FinetuneConfig
from llmrec.evaluate_config import EvaluateConfig
from llmrec.pretrain_config import PretrainConfig
from llmrec.rerank_config import RerankConfig
from llmrec.training.record import open_record
from llmrec.versions import package_versions


def start(config: FinetuneConfig | PretrainConfig | RerankConfig) -> Accelerator:
    """The accelerator of this process, its trackers, log and record open and everything seeded."""
    accelerator = Accelerator(
        mixed_precision=config.mixed_precision,
        log_with=list(config.trackers) or None,
        project_dir=config.output,
        # The text table is a buffer that each process renews by itself; sending it with each step would be slow.
        kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False)],
    )
    set_seed(config.seeds[0] if isinstance(config, FinetuneConfig) else config.seed)
    open_record(config, accelerator, provenance(accelerator))
    if config.trackers:
        accelerator.init_trackers("llmrec", config=_flat(dataclasses.asdict(config)))
    return accelerator


def join(config: EvaluateConfig | None = None) -> Accelerator:
    """The accelerator of a process that shares work without training anything, and waits a week for the others: a share
    of a large catalog may take hours longer than another, and torch gives up after half an hour.

    config: of a run that has a folder.
    """
    accelerator = Accelerator(kwargs_handlers=[InitProcessGroupKwargs(timeout=timedelta(days=7))])
    if config is not None:
        open_record(config, accelerator, provenance(accelerator))
    return accelerator


def total(count: int, accelerator: Accelerator) -> int:
    """The sum over all processes, in each of them."""
    return int(accelerator.reduce(torch.tensor(count, device=accelerator.device), "sum"))


def provenance(accelerator: Accelerator) -> dict[str, Any]:
    """Command, commit, machine and versions: what a figure needs beside it."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return {
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "commit": _commit(),
        "machine": f"{_processor()}, {os.cpu_count()} cores, {_memory()}, {gpu}",
        "processes": accelerator.num_processes,
        "threads": torch.get_num_threads(),
        "precision": accelerator.mixed_precision,
        "versions": package_versions(),
    }


@cache
def _commit() -> str:
    """The commit of the source tree, with a `+` where it has uncommitted changes."""
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


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _memory() -> str:
    try:
        return f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.0f} GiB"
    except (AttributeError, OSError, ValueError):  # not a POSIX system
        return "unknown memory"


def _flat(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as `a.b: value`, which trackers can show."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value if isinstance(value, (int, float, str, bool)) else str(value)
    return flat
