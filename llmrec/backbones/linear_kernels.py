"""Selection of the fastest linear layer on this CPU: plain torch or oneDNN, in fp32 or bf16.

torch's linear layer multiplies by MKL in fp32, which is slow on CPUs with AVX-512 that are not Intel's. oneDNN
reorders the weights once, as TorchInductor does, through operators that are private and may be missing in another
release. Each method is therefore tried on one product first, and only those that exist and are accurate are timed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional

ROWS = 2048  # tokens of a packed row
WIDTH = (384, 1536)  # in and out of the product that is tried: the largest layer of MiniLM
ROUNDS, TOO_SLOW = 5, 2  # a method that takes TOO_SLOW times the fastest is not tried again
CLEARLY = 0.8  # of plain torch's time: similarly fast methods round differently, and all runs must choose the same
ERROR = {torch.float32: 1e-5, torch.bfloat16: 1e-2}  # allowed in a product, relative to its norm

Layer = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Arithmetic:
    """Method to compute linear layers."""

    dtype: torch.dtype
    """Type of weights and inputs."""
    onednn: bool
    """True for oneDNN's own operators, on weights reordered for them."""

    def make_layer(self, weight: Tensor, bias: Tensor | None) -> Layer:
        """Make a function that computes x weight^T + bias.

        Args:
            weight: Weights in `dtype`, (out, in).
            bias: Bias in `dtype`, (out,); None for none.

        Returns:
            Function of x, (..., in) -> (..., out).
        """
        if not self.onednn:
            return lambda x: functional.linear(x, weight, bias)
        operators = torch.ops.mkldnn
        laid_out = operators._reorder_linear_weight(weight.detach().contiguous(), ROWS)
        return lambda x: operators._linear_pointwise(x, laid_out, bias, "none", [], "")


OF_A_GPU = Arithmetic(torch.float16, onednn=False)  # on a GPU as fast as bf16, and ten times closer to fp32


@cache
def choose_fastest(*, reduced: bool) -> Arithmetic:
    """Return the fastest method on this CPU, measured once per process.

    Args:
        reduced: True to allow bf16 as well as fp32.

    Returns:
        Fastest method; plain fp32 unless another one is clearly faster.
    """
    dtypes = (torch.float32, torch.bfloat16) if reduced else (torch.float32,)
    plain = Arithmetic(torch.float32, onednn=False)
    ways = [
        way
        for dtype in dtypes
        for way in (Arithmetic(dtype, onednn=False), Arithmetic(dtype, onednn=True))
        if _is_accurate(way)
    ]
    spent = dict.fromkeys([plain, *ways], float("inf"))
    for _ in range(ROUNDS):  # in turn, so that other work on the machine slows all of them
        limit = TOO_SLOW * min(spent.values())
        for way in [way for way in spent if spent[way] <= limit]:
            spent[way] = min(spent[way], _measure_seconds(way))
    fastest = min(spent, key=lambda way: spent[way])
    return fastest if spent[fastest] <= CLEARLY * spent[plain] else plain


@cache
def _make_product(dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Return x (ROWS, in), weight (out, in) and bias (out,), with the same numbers in each type."""
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
    """Return whether this method exists here and gives the products of plain torch in fp32."""
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
    """Replace the forward methods of a model's linear layers; the model cannot train after that.

    Args:
        model: Model with weights of the type of `arithmetic`; changed in place.
        arithmetic: Method to compute the layers.
    """
    from transformers.pytorch_utils import Conv1D  # GPT-2's linear layer, its weight transposed

    for module in model.modules():
        weight, bias = getattr(module, "weight", None), getattr(module, "bias", None)
        if type(module) in (nn.Linear, Conv1D) and weight is not None:
            layer = arithmetic.make_layer(weight if type(module) is nn.Linear else weight.t(), bias)
            vars(module)["forward"] = layer  # overrides the method; adapters may still read the weights
