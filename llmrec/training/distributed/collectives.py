"""How processes share: rows that each reads an equal share of and all then use, with gradients to who read them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, distributed

from llmrec.backbones.catalog_encoder import CatalogEncoder
from llmrec.errors import ConfigError
from llmrec.utils.arrays import Rows

_alone = False


@contextmanager
def single_process() -> Iterator[None]:
    """Within it no process waits for others: what it has read itself stands in for what they would have."""
    global _alone
    _alone = True
    try:
        yield
    finally:
        _alone = False


def is_fsdp_requested() -> bool:
    """Whether `accelerate launch` was given FSDP.

    Raises:
        ConfigError: with what is not done here.
    """
    if os.environ.get("ACCELERATE_USE_FSDP", "false").lower() != "true":
        return False
    for setting in ("offload_params", "activation_checkpointing"):
        if os.environ.get(f"FSDP_{setting.upper()}", "false").lower() == "true":
            raise ConfigError(f"fsdp_{setting}: true is not offered; set it to false, or train less: LoRA, last_k")
    return True


def get_n_processes() -> int:
    return distributed.get_world_size() if distributed.is_initialized() else 1


def take_equal_share(rows: Rows, process: int, processes: int) -> Rows:
    """A stretch of (R,) rows, as long as that of every other process; the first rows come again where it cannot be.

    >>> [take_equal_share(np.array([7, 8, 9]), process, 2).tolist() for process in (0, 1)]
    [[7, 8], [9, 7]]
    """
    share: Rows = np.resize(rows, (processes, -(-len(rows) // processes)))[process]
    return share


def take_own_share(rows: Rows) -> Rows:
    """This process's."""
    process = distributed.get_rank() if distributed.is_initialized() else 0
    return take_equal_share(rows, process, get_n_processes())


def all_gather_with_grad(share: Tensor, n_rows: int | None = None) -> Tensor:
    """(n_rows, D) of all processes' equal shares (S, D); without `n_rows` all there are."""
    if get_n_processes() == 1 or _alone:
        return torch.cat([share] * get_n_processes())[:n_rows]
    everyones: Tensor = _Gather.apply(share)  # type: ignore[no-untyped-call]
    return everyones[:n_rows]


class _Gather(torch.autograd.Function):
    """Rows of all processes; a row's gradient is the sum of what all processes' losses say of it."""

    @staticmethod
    def forward(ctx: Any, share: Tensor) -> Tensor:
        parts = [torch.empty_like(share) for _ in range(get_n_processes())]
        distributed.all_gather(parts, share.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        grad = grad.contiguous()
        distributed.all_reduce(grad)
        return grad.chunk(get_n_processes())[distributed.get_rank()]


@torch.no_grad()
def encode_catalog(reader: CatalogEncoder, accelerator: Accelerator) -> Tensor:
    """(N, D_text) of the whole catalog by the backbone as it is now, on the CPU; each process reads its share."""
    mine = np.arange(accelerator.process_index, len(reader.tokens), accelerator.num_processes)
    describe = "reading the catalog" if accelerator.is_main_process else None
    table = torch.zeros(len(reader.tokens), reader.backbone.dim, device=accelerator.device)
    table[torch.from_numpy(mine).to(table.device)] = reader.encode(mine, describe).to(table)
    whole: Tensor = accelerator.reduce(table, "sum")
    return whole.cpu()
