"""How a run starts and what it records of itself."""

from __future__ import annotations

import dataclasses
import logging
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
from accelerate.utils import InitProcessGroupKwargs, patch_environment, set_seed

from llmrec.config.jobs.evaluate import EvaluateConfig
from llmrec.config.jobs.finetune import FinetuneConfig
from llmrec.config.jobs.pretrain import PretrainConfig
from llmrec.config.jobs.rerank import RerankConfig
from llmrec.errors import ConfigError
from llmrec.training.gathering import shards_wanted
from llmrec.training.record import open_record
from llmrec.utils.versions import package_versions

logger = logging.getLogger(__name__)
# Processes wait a week for each other: a share of a large catalog, or a baseline, may take hours longer than another,
# and torch gives up after half an hour.
PATIENT = InitProcessGroupKwargs(timeout=timedelta(days=7))


def start(config: FinetuneConfig | PretrainConfig | RerankConfig) -> Accelerator:
    """The accelerator of this process, its trackers, log and record open and everything seeded.

    Raises:
        ConfigError: `accelerate launch` was asked for what this run cannot do.
    """
    sharded = _shards_asked(config)
    with patch_environment(ACCELERATE_USE_FSDP="false"):  # shards are llmrec's own, see training/shards.py
        accelerator = Accelerator(
            mixed_precision=config.mixed_precision,
            log_with=list(config.trackers) or None,
            project_dir=config.output,
            # The text table is a buffer that each process renews by itself; sending it with each step would be slow.
            kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False), PATIENT],
        )
    open_record(config, accelerator, provenance(accelerator))
    if sharded is not None:
        logger.info(sharded if accelerator.num_processes > 1 else "FSDP: one process has nobody to share with")
    set_seed(config.seeds[0] if isinstance(config, FinetuneConfig) else config.seed)
    if config.trackers:
        accelerator.init_trackers("llmrec", config=_flat(dataclasses.asdict(config)))
    return accelerator


def _shards_asked(config: FinetuneConfig | PretrainConfig | RerankConfig) -> str | None:
    """What is told of FSDP, where it is asked for; None where it is not."""
    for other in ("DEEPSPEED", "MEGATRON_LM"):
        if os.environ.get(f"ACCELERATE_USE_{other}", "false").lower() == "true":
            raise ConfigError(
                f"distributed_type {other}: between steps the model is read, ranked and saved outside of the engine "
                "that this would hold it in; launch with recipes/accelerate/fsdp.yaml, which shards as much, or ddp"
            )
    if not shards_wanted():
        return None
    os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] = "false"  # or transformers would give weights to one process alone
    if isinstance(config, PretrainConfig):
        raise ConfigError(
            "distributed_type FSDP: pretraining is data parallel; launch with recipes/accelerate/ddp.yaml"
        )
    if isinstance(config, RerankConfig) or config.backbone.strategy in ("none", "frozen"):
        return "FSDP: no backbone trains here, and what does is small: it is whole in each process, data parallel (DDP)"
    return "FSDP: the backbone is sharded while it trains; the fit before it, on stored vectors, is data parallel (DDP)"


def join(config: EvaluateConfig | None = None) -> Accelerator:
    """The accelerator of a process that shares work without training anything. config: of a run that has a folder."""
    accelerator = Accelerator(kwargs_handlers=[PATIENT])
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
