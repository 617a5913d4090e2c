"""Softmax cross-entropy over a whole catalog, forward and backward: ours beside plain torch, time and memory.

    OMP_NUM_THREADS=1 python scripts/bench/loss.py [--targets 3200] [--items 9062] [--dim 64] [--rounds 7] [--json PATH]
        [--device cuda]

Time is CPU time of one thread, or until a GPU is done, in rounds that alternate; memory is what is held at most beyond
the inputs, in a process of its own for each side.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import jsonargparse
import torch
from clock import seconds_of, unit_of
from comparison import Row, report
from memory import peak_memory
from torch import Tensor
from torch.nn import functional

from llmrec.models.losses import full_softmax_loss

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


def plain_torch(states: Tensor, items: Tensor, target: Tensor) -> Tensor:
    return functional.cross_entropy(states @ items.T, target, reduction="sum")


def main(
    targets: int = 3200,
    items: int = 9062,
    dim: int = 64,
    rounds: int = 7,
    device: str = "cpu",
    json: Path | None = None,
) -> None:
    torch.set_num_threads(1)
    size = targets, items, dim, device
    spent: dict[Loss, list[float]] = {full_softmax_loss: [], plain_torch: []}
    for _ in range(rounds + 1):
        for loss, seconds in spent.items():
            seconds.append(step_seconds(loss, *size))
    ours, plain = ([1000 * s for s in seconds[1:]] for seconds in spent.values())  # the first round warms up
    held = []
    for loss in spent:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
            held.append([process.submit(peak_mib, loss, *size).result()])
    work = f"full-softmax cross-entropy {targets} x {items} x {dim}"
    report([Row.costs(work, ours, plain, unit_of(device)), Row.costs(work, *held, "MiB at most")], json)


def inputs(targets: int, items: int, dim: int, device: str) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(targets, dim, generator=generator).to(device).requires_grad_()
    table = (torch.randn(items, dim, generator=generator) * 0.1).to(device).requires_grad_()
    return states, table, torch.randint(items, (targets,), generator=generator).to(device)


def step_seconds(loss: Loss, targets: int, items: int, dim: int, device: str) -> float:
    given = inputs(targets, items, dim, device)
    return seconds_of(lambda: loss(*given).backward(), device)


def peak_mib(loss: Loss, targets: int, items: int, dim: int, device: str) -> float:
    torch.set_num_threads(1)
    step_seconds(loss, 8, 8, dim, device)  # loads what is loaded once
    given = inputs(targets, items, dim, device)
    with peak_memory(device=device) as peak:
        loss(*given).backward()
    return peak.mib


if __name__ == "__main__":
    jsonargparse.auto_cli(main, as_positional=False)
