"""Work in several processes that speak by gloo, as one function call."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate import debug_launcher
from accelerate.state import AcceleratorState
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.optim.optimizer import register_optimizer_step_pre_hook


def in_processes(n: int, work: Callable[..., dict[str, Any]], folder: Path, *arguments: Any) -> list[dict[str, Any]]:
    """What `work(*arguments)` gives in each of `n` processes, which really are so many: it tells as `processes`."""
    debug_launcher(_tell, (work, folder, *arguments), num_processes=n)
    told = [torch.load(folder / f"{process}.pt", weights_only=False) for process in range(n)]
    assert [one["processes"] for one in told] == [n] * n
    return told


def _tell(work: Callable[..., dict[str, Any]], folder: Path, *arguments: Any) -> None:
    AcceleratorState._reset_state(reset_partial_state=True)  # of earlier tests, before the fork
    outcome = work(*arguments)
    process = torch.distributed.get_rank() if torch.distributed.is_initialized() else 0
    torch.save(outcome, folder / f"{process}.pt")


@contextmanager
def gradients_of_steps() -> Iterator[list[dict[str, Tensor]]]:
    """Those that each optimizer step within is about to take, by the place of their weight; of shards the whole."""
    gradients: list[dict[str, Tensor]] = []

    def keep(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        weights = [weight for group in optimizer.param_groups for weight in group["params"]]
        gradients.append({str(row): _whole(w.grad) for row, w in enumerate(weights) if w.grad is not None})

    hook = register_optimizer_step_pre_hook(keep)
    try:
        yield gradients
    finally:
        hook.remove()


def _whole(tensor: Tensor) -> Tensor:
    return (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor).detach().clone()
