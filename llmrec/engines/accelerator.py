"""Communication between the processes of a run."""

from __future__ import annotations

from datetime import timedelta

import torch
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs

# Processes wait for each other for up to a week: one share of a large catalog, or one baseline, may take hours longer
# than another, and torch's default is half an hour.
PATIENT = InitProcessGroupKwargs(timeout=timedelta(days=7))


def all_reduce_sum(count: int, accelerator: Accelerator) -> int:
    """Add up a number over all processes.

    Args:
        count: Number of this process.
        accelerator: Accelerator of the run.

    Returns:
        The sum, in each process.
    """
    return int(accelerator.reduce(torch.tensor(count, device=accelerator.device), "sum"))
