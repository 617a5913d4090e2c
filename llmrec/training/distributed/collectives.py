"""Share rows among processes: each encodes an equal share, all receive the whole, with gradients."""

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
    """Run the code within without waiting for other processes; own rows replace those of the others."""
    global _alone
    _alone = True
    try:
        yield
    finally:
        _alone = False


def is_fsdp_requested() -> bool:
    """Return True if `accelerate launch` requests FSDP.

    Returns:
        True or False.

    Raises:
        ConfigError: If it also requests an FSDP feature that is not supported.
    """
    if os.environ.get("ACCELERATE_USE_FSDP", "false").lower() != "true":
        return False
    for setting in ("offload_params", "activation_checkpointing"):
        if os.environ.get(f"FSDP_{setting.upper()}", "false").lower() == "true":
            raise ConfigError(f"fsdp_{setting}: true is not offered; set it to false, or train less: LoRA, last_k")
    return True


def get_n_processes() -> int:
    """Return the number of processes of the run.

    Returns:
        The number, 1 without a process group.
    """
    return distributed.get_world_size() if distributed.is_initialized() else 1


def take_equal_share(rows: Rows, process: int, processes: int) -> Rows:
    """Return an equal, contiguous share of rows; the first rows fill up the last share.

    Args:
        rows: Rows to divide, (R,).
        process: Index of the process.
        processes: Number of processes.

    Returns:
        The share, (S,).

    Example:
        >>> [take_equal_share(np.array([7, 8, 9]), process, 2).tolist() for process in (0, 1)]
        [[7, 8], [9, 7]]
    """
    share: Rows = np.resize(rows, (processes, -(-len(rows) // processes)))[process]
    return share


def take_own_share(rows: Rows) -> Rows:
    """Return the equal share of this process.

    Args:
        rows: Rows to divide, (R,).

    Returns:
        The share, (S,).
    """
    process = distributed.get_rank() if distributed.is_initialized() else 0
    return take_equal_share(rows, process, get_n_processes())


def all_gather_with_grad(share: Tensor, n_rows: int | None = None) -> Tensor:
    """Concatenate the rows of all processes; gradients return to the process that owns them.

    Args:
        share: Rows of this process, (S, D), equally many in all.
        n_rows: Rows to keep; None keeps all.

    Returns:
        The rows, (n_rows, D).
    """
    if get_n_processes() == 1 or _alone:
        return torch.cat([share] * get_n_processes())[:n_rows]
    everyones: Tensor = _Gather.apply(share)  # type: ignore[no-untyped-call]
    return everyones[:n_rows]


class _Gather(torch.autograd.Function):
    """Gather the rows of all processes; the gradient of a row is the sum over the losses of all processes."""

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
    """Encode the whole catalog with the current backbone; each process encodes its share.

    Args:
        reader: Encoder of the catalog.
        accelerator: Processes that share the work.

    Returns:
        Text vectors, (N, D_text), on the CPU.
    """
    own = np.arange(accelerator.process_index, len(reader.tokens), accelerator.num_processes)
    describe = "reading the catalog" if accelerator.is_main_process else None
    table = torch.zeros(len(reader.tokens), reader.backbone.dim, device=accelerator.device)
    table[torch.from_numpy(own).to(table.device)] = reader.encode(own, describe).to(table)
    whole: Tensor = accelerator.reduce(table, "sum")
    return whole.cpu()
