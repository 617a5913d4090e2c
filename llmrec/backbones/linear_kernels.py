"""The fastest way to multiply on this CPU, found by trying: plain torch or oneDNN, in fp32 or bf16.

torch's linear layer multiplies by MKL in fp32, which is slow on CPUs with AVX-512 that are not Intel's. oneDNN lays the
weights out once, which TorchInductor does too, through operators that are private and may be missing in another
release: every way is tried on one product first, and only those that exist and agree are timed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional

ROWS = 2048  # tokens of a packed row, whatever the lengths of its texts
WIDTH = (384, 1536)  # of the product that is tried: the widest layer of MiniLM
ROUNDS, TOO_SLOW = 5, 2  # a way that takes so many times the fastest is not tried again
CLEARLY = 0.8  # of plain torch's time: ways that are about as fast round differently, and runs have to agree on one
ERROR = {torch.float32: 1e-5, torch.bfloat16: 1e-2}  # that a product may have, relative to its size

Layer = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Arithmetic:
    """onednn: by its own operators, on weights that were laid out for them."""

    dtype: torch.dtype
    onednn: bool

    def make_layer(self, weight: Tensor, bias: Tensor | None) -> Layer:
        """Return x -> x weight^T + bias, of tensors that are in `dtype` already."""
        if not self.onednn:
            return lambda x: functional.linear(x, weight, bias)
        operators = torch.ops.mkldnn
        laid_out = operators._reorder_linear_weight(weight.detach().contiguous(), ROWS)
        return lambda x: operators._linear_pointwise(x, laid_out, bias, "none", [], "")


OF_A_GPU = Arithmetic(torch.float16, onednn=False)  # as fast there as bf16, and ten times nearer to fp32


@cache
def choose_fastest(reduced: bool) -> Arithmetic:
    """Return the fastest way that computes in fp32, or, `reduced`, in fp32 or bf16; measured once in a process."""
    dtypes = (torch.float32, torch.bfloat16) if reduced else (torch.float32,)
    plain = Arithmetic(torch.float32, onednn=False)
    ways = [way for dtype in dtypes for way in (Arithmetic(dtype, False), Arithmetic(dtype, True)) if _is_accurate(way)]
    spent = dict.fromkeys([plain, *ways], float("inf"))
    for _ in range(ROUNDS):  # in turn, so that other work on the machine hits all alike
        limit = TOO_SLOW * min(spent.values())
        for way in [way for way in spent if spent[way] <= limit]:
            spent[way] = min(spent[way], _measure_seconds(way))
    fastest = min(spent, key=lambda way: spent[way])
    return fastest if spent[fastest] <= CLEARLY * spent[plain] else plain


@cache
def _make_product(dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Return x (ROWS, in), weight (out, in) and bias (out,): the same numbers in each type."""
    draw = torch.Generator().manual_seed(0)
    width, out = WIDTH
    shapes = ((ROWS, width), (out, width), (out,))
    x, weight, bias = (torch.randn(shape, generator=draw).to(dtype) for shape in shapes)
    return x, weight, bias


@cache
def _make_layer(way: Arithmetic) -> Layer:
    _, weight, bias = _make_product(way.dtype)
    return way.make_layer(weight, bias)


@torch.no_grad()
def _is_accurate(way: Arithmetic) -> bool:
    """Return whether this way exists here and gives the products of plain torch in fp32."""
    expected = functional.linear(*_make_product(torch.float32))
    try:
        read = _make_layer(way)(_make_product(way.dtype)[0])
    except (AttributeError, RuntimeError):  # a build without oneDNN, operators renamed, a type without kernels
        return False
    return bool((read.float() - expected).norm() <= ERROR[way.dtype] * expected.norm())


@torch.no_grad()
def _measure_seconds(way: Arithmetic) -> float:
    layer, x = _make_layer(way), _make_product(way.dtype)[0]
    began = time.perf_counter()
    layer(x)
    return time.perf_counter() - began


def replace_linear_layers(model: nn.Module, arithmetic: Arithmetic) -> None:
    """Compute the linear layers of `model`, whose weights are of that type, by `arithmetic`; it cannot train then."""
    from transformers.pytorch_utils import Conv1D  # GPT-2's linear layer, its weight transposed

    for module in model.modules():
        weight, bias = getattr(module, "weight", None), getattr(module, "bias", None)
        if type(module) in (nn.Linear, Conv1D) and weight is not None:
            layer = arithmetic.make_layer(weight if type(module) is nn.Linear else weight.t(), bias)
            vars(module)["forward"] = layer  # found before the method; adapters may still look at the weights
