"""Cost of a piece of work on this machine and, by estimate, on a GPU, measured while the work runs.

Seconds are measured. GPU time is estimated from counts: products in floating point operations, everything else in calls
of torch, which reach a GPU one by one. A memory estimate is the sum of tensors that exist at the same time.
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

CALL_SECONDS = 1e-5  # for which a GPU waits for Python at each call: about the time of eager torch
TFLOPS = 10.0  # sustained by a GPU: half the fp32 rate of an A100


@dataclass(frozen=True)
class Cost:
    """Time on this machine and operations of a piece of work."""

    wall: float = 0.0
    """Wall-clock seconds."""
    cpu: float = 0.0
    """CPU seconds."""
    flops: float = 0.0
    """Floating point operations of products."""
    calls: float = 0.0
    """Calls of torch's operations."""

    def __add__(self, other: Cost) -> Cost:
        return Cost(*(one + two for one, two in zip(astuple(self), astuple(other), strict=True)))

    def __mul__(self, times: float) -> Cost:
        return Cost(*(value * times for value in astuple(self)))

    def gpu_seconds(self, tflops: float) -> float:
        """Estimate the time on a GPU: products at a rate, but no faster than calls arrive.

        Args:
            tflops: Sustained rate in TFLOP/s.

        Returns:
            Seconds.
        """
        return max(self.flops / (tflops * 1e12), self.calls * CALL_SECONDS)


NOTHING = Cost()


@dataclass(frozen=True)
class LinearCost:
    """Cost that grows linearly with the number of queries."""

    fixed: Cost
    """Cost that does not depend on queries."""
    each: Cost
    """Cost of each query."""

    def __call__(self, n: float) -> Cost:
        """Return the cost of a number of queries.

        Args:
            n: Number of queries.

        Returns:
            The cost.
        """
        return self.fixed + self.each * n

    @classmethod
    def from_two_points(cls, few: tuple[int, Cost], more: tuple[int, Cost]) -> LinearCost:
        """Fit the line through two measurements, or through the larger and zero if a cost would be negative.

        Args:
            few: Smaller number of queries and its cost.
            more: Larger number of queries and its cost.

        Returns:
            The line.
        """
        each = [(b - a) / (more[0] - few[0]) for a, b in zip(astuple(few[1]), astuple(more[1]), strict=True)]
        fixed = [value - few[0] * slope for value, slope in zip(astuple(few[1]), each, strict=True)]
        for row, value in enumerate(astuple(more[1])):
            if each[row] < 0 or fixed[row] < 0:
                each[row], fixed[row] = value / more[0], 0.0
        return cls(Cost(*fixed), Cost(*each))


@dataclass(frozen=True)
class Footprint:
    """Bytes on a device."""

    weights: int
    """Bytes of weights."""
    gradients: int
    """Bytes of gradients; twice as many if processes exchange them."""
    optimizer: int
    """Bytes of Adam's two moments."""
    activations: int
    """Bytes that the forward pass saves for the backward pass."""
    working: int = 0
    """Bytes of the largest temporary tensors."""

    @property
    def total(self) -> int:
        """Sum of all bytes."""
        return self.weights + self.gradients + self.optimizer + self.activations + self.working


def measure_time(work: Callable[[], object]) -> Cost:
    """Measure the time of a piece of work.

    Args:
        work: Function that does the work.

    Returns:
        Wall-clock and CPU seconds.
    """
    began = read_clock()
    work()
    return Cost(*elapsed_since(began))


def count_operations(work: Callable[[], object]) -> Cost:
    """Count the floating point operations and calls of a piece of work; its time is not measured.

    Args:
        work: Function that does the work.

    Returns:
        Operations and calls.
    """
    # Counting takes longer than the work.
    flops, calls = FlopCounterMode(display=False, custom_mapping=NOT_IN_TORCH), _CallCounter()
    with flops, calls:
        work()
    return Cost(flops=flops.get_total_flops(), calls=calls.n)


def count_weight_bytes(*modules: nn.Module) -> int:
    """Count the bytes of parameters and buffers, each once.

    Args:
        *modules: Modules.

    Returns:
        Bytes.
    """
    return sum({id(t): t.nbytes for module in modules for t in (*module.parameters(), *module.buffers())}.values())


def count_trained_bytes(module: nn.Module) -> int:
    """Count the bytes of parameters that train; gradients take as many, and Adam's moments twice as many.

    Args:
        module: Module.

    Returns:
        Bytes.
    """
    return sum(weight.nbytes for weight in module.parameters() if weight.requires_grad)


@dataclass
class SavedBytes:
    """Counter of bytes."""

    bytes: int = 0
    """Number of bytes."""


@contextmanager
def track_saved_activations(module: nn.Module) -> Iterator[SavedBytes]:
    """Count the bytes that forward passes in the context save for their backward pass, without weights.

    Args:
        module: Module whose own weights are not counted.

    Yields:
        The counter.
    """
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
    """Count the operations for shapes (M, N), (M, K), (K, N)."""
    return int(2 * first[0] * first[1] * second[1])


def _count_attention(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    """Count the operations of scores and weighted sums for (B, H, L, D), (B, H, S, D), (B, H, S, D_value)."""
    return int(2 * query[0] * query[1] * query[2] * key[2] * (query[3] + value[3]))


def _count_attention_backward(_: Any, query: Any, key: Any, value: Any, *__: Any, **___: Any) -> int:
    """Count the operations of five products; the forward pass has two, and scores are computed again."""
    return int(2 * query[0] * query[1] * query[2] * key[2] * (3 * query[3] + 2 * value[3]))


NOT_IN_TORCH = {  # operations that torch's counter leaves out
    torch.ops.aten.addmm_: _count_addmm_in_place,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _count_attention,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _count_attention_backward,
}
