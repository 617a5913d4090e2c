"""How processes wait for each other and add up numbers."""

from __future__ import annotations

from datetime import timedelta

import torch
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs

# Processes wait a week for each other: a share of a large catalog, or a baseline, may take hours longer than another,
# and torch gives up after half an hour.
PATIENT = InitProcessGroupKwargs(timeout=timedelta(days=7))


def all_reduce_sum(count: int, accelerator: Accelerator) -> int:
    """The sum over all processes, in each of them."""
    return int(accelerator.reduce(torch.tensor(count, device=accelerator.device), "sum"))
