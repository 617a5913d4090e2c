"""Communication between the processes of a run."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs

from llmrec.errors import ConfigError

# Processes wait for each other for up to a week: one share of a large catalog, or one baseline, may take hours longer
# than another, and torch's default is half an hour.
PATIENT = InitProcessGroupKwargs(timeout=timedelta(days=7))
# Variables that hold the number of processes, of torchrun and of kinds of MPI.
COUNTS = ("WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE")
ADDRESS = "MASTER_ADDR"  # set for several processes


def open_accelerator(**options: Any) -> Accelerator:
    """Open the communication between the processes that a launcher has started.

    Args:
        **options: Arguments of `Accelerator`.

    Returns:
        The accelerator of this process.

    Raises:
        ConfigError: If the processes do not meet, so that each would do all the work.
    """
    requested = _count_requested()
    try:
        accelerator = Accelerator(**options)
    except (ValueError, RuntimeError, KeyError) as error:
        if requested == 1:
            raise
        reason = " ".join(str(error).split()).rstrip(".")
        raise ConfigError(
            f"processes: {requested} were requested and cannot work together: {reason}. Start no more than there are "
            "GPUs, or set ACCELERATE_USE_CPU=true for processes on CPUs."
        ) from error
    if accelerator.num_processes != requested:
        raise ConfigError(
            f"processes: {requested} were requested ({_describe_request()}), and Accelerate made one of each, which "
            "would do all the work. On a machine without GPUs set ACCELERATE_USE_CPU=true and start them by torchrun, "
            "`accelerate launch --multi_gpu` or --processes; for one process, start it without a launcher."
        )
    return accelerator


def _count_requested() -> int:
    """Return the number of processes that a launcher requested; `accelerate launch --cpu` leaves an address only."""
    counts = [int(os.environ[name]) for name in COUNTS if os.environ.get(name, "").isdigit()]
    return max(counts) if counts else 1 + (ADDRESS in os.environ)


def _describe_request() -> str:
    return ", ".join(f"{name}={os.environ[name]}" for name in (*COUNTS, ADDRESS) if name in os.environ)


def all_reduce_sum(count: int, accelerator: Accelerator) -> int:
    """Add up a number over all processes.

    Args:
        count: Number of this process.
        accelerator: Accelerator of the run.

    Returns:
        The sum, in each process.
    """
    return int(accelerator.reduce(torch.tensor(count, device=accelerator.device), "sum"))
