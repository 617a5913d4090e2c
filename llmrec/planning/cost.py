"""What a piece of work costs here, and what it asks of a GPU: measured on the work itself, which really runs.

Seconds are measured. What a GPU would take is counted: products in floating point operations, everything else in calls
of torch, which a GPU is handed one by one. A memory estimate is the sum of tensors that are alive together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from llmrec.utils.timing import elapsed_since, read_clock

CALL_SECONDS = 1e-5  # for which a GPU waits for Python at each call: about what eager torch takes
TFLOPS = 10.0  # that a GPU keeps up: half of what an A100 does in fp32


@dataclass(frozen=True)
class Cost:
    """wall, cpu: seconds, here. flops: of products. calls: of torch's operations."""

    wall: float = 0.0
    cpu: float = 0.0
    flops: float = 0.0
    calls: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(*(one + two for one, two in zip(astuple(self), astuple(other), strict=True)))

    def __mul__(self, times: float) -> Cost:
        return Cost(*(value * times for value in astuple(self)))

    def gpu_seconds(self, tflops: float) -> float:
        """An estimate: products at that many TFLOP/s, but no faster than calls come in."""
        return max(self.flops / (tflops * 1e12), self.calls * CALL_SECONDS)


NOTHING = Cost()


@dataclass(frozen=True)
class LinearCost:
    """Work that takes `fixed` and `each` for every query."""

    fixed: Cost
    each: Cost

    def __call__(self, n: float) -> Cost:
        return self.fixed + self.each * n

    @classmethod
    def from_two_points(cls, few: tuple[int, Cost], more: tuple[int, Cost]) -> LinearCost:
        """The line through two measurements; through the larger and zero where noise would have it cost less than 0."""
        each = [(b - a) / (more[0] - few[0]) for a, b in zip(astuple(few[1]), astuple(more[1]), strict=True)]
        fixed = [value - few[0] * slope for value, slope in zip(astuple(few[1]), each, strict=True)]
        for row, value in enumerate(astuple(more[1])):
            if each[row] < 0 or fixed[row] < 0:
                each[row], fixed[row] = value / more[0], 0.0
        return cls(Cost(*fixed), Cost(*each))


@dataclass(frozen=True)
class Footprint:
    """Bytes on a device. gradients: twice where processes send them to each other. optimizer: Adam's two moments.
    activations: what the forward pass keeps for the backward one. working: the largest of what comes and goes.
    """

    weights: int
    gradients: int
    optimizer: int
    activations: int
    working: int = 0

    @property
    def total(self) -> int:
        return self.weights + self.gradients + self.optimizer + self.activations + self.working


def measure_time(work: Callable[[], object]) -> Cost:
    began = read_clock()
    work()
    return Cost(*elapsed_since(began))


def count_operations(work: Callable[[], object]) -> Cost:
    """flops and calls of the work, whose time is not told: counting takes longer than working."""
    flops, calls = FlopCounterMode(display=False, custom_mapping=NOT_IN_TORCH), _CallCounter()
    with flops, calls:
        work()
    return Cost(flops=flops.get_total_flops(), calls=calls.n)


def count_weight_bytes(*modules: nn.Module) -> int:
    """Of parameters and buffers, each once."""
    return sum({id(t): t.nbytes for module in modules for t in (*module.parameters(), *module.buffers())}.values())


def count_trained_bytes(module: nn.Module) -> int:
    """Of the parameters that train: their gradients take as much, and Adam's moments twice as much."""
    return sum(weight.nbytes for weight in module.parameters() if weight.requires_grad)


@dataclass
class SavedBytes:
    bytes: int = 0


@contextmanager
def track_saved_activations(module: nn.Module) -> Iterator[SavedBytes]:
    """Bytes that forward passes within the context keep for their backward pass, the module's own weights aside."""
    counted_already = {tensor.untyped_storage().data_ptr() for tensor in (*module.parameters(), *module.buffers())}
    saved = SavedBytes()

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in counted_already:
            counted_already.add(storage.data_ptr())
            saved.bytes += storage.nbytes()
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        yield saved


class _CallCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.n = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.n += 1
        return func(*args, **(kwargs or {}))


def _count_addmm_in_place(own: Any, first: Any, second: Any, **_: Any) -> int:
    """Shapes (M, N), (M, K), (K, N)."""
    return int(2 * first[0] * first[1] * second[1])


def _count_attention(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    """Shapes (B, H, L, D), (B, H, S, D), (B, H, S, D_value): scores, and what they weigh."""
    return int(2 * query[0] * query[1] * query[2] * key[2] * (query[3] + value[3]))


def _count_attention_backward(_: Any, query: Any, key: Any, value: Any, *__: Any, **___: Any) -> int:
    """Five products where the forward pass has two: the scores are made again."""
    return int(2 * query[0] * query[1] * query[2] * key[2] * (3 * query[3] + 2 * value[3]))


NOT_IN_TORCH = {  # what its counter leaves out
    torch.ops.aten.addmm_: _count_addmm_in_place,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _count_attention,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _count_attention_backward,
}
