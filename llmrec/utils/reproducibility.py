"""Bit-identical matrix products, by a mode of MKL that ignores the address of operands."""

from __future__ import annotations

import os
from functools import cache

# MKL's fastest kernels differ in the last bits of a product between a tensor and its copy, mainly on AMD CPUs. Its
# strict mode prevents that. It is set when llmrec is imported, because MKL reads it once, before its first product.
VARIABLE, STRICT = "MKL_CBWR", "AUTO,STRICT"
SHAPES = ((1, 384, 64), (1, 64, 2000), (5, 384, 64), (64, 64, 300), (7, 50, 33))  # rows, inner width, columns
SHIFTS = 16  # floats: a cache line


def request_reproducible_products() -> None:
    """Set MKL's strict mode for this process and those that it starts, unless the user has chosen a mode.

    An empty `MKL_CBWR=` in the environment keeps MKL's own choice of kernels.
    """
    os.environ.setdefault(VARIABLE, STRICT)


@cache
def are_products_reproducible() -> bool:
    """Return whether products of the same numbers have the same bits wherever the numbers are in memory.

    This is measured: a program may have multiplied before it imported llmrec, and not every torch multiplies with MKL.
    """
    return all(_is_independent_of_alignment(*shape) for shape in SHAPES)


def _is_independent_of_alignment(n_rows: int, width: int, n_columns: int) -> bool:
    import torch  # heavy; importing llmrec stays cheap

    draw = torch.Generator().manual_seed(0)
    left, right = torch.randn(n_rows, width, generator=draw), torch.randn(n_columns, width, generator=draw)
    room = torch.empty(right.numel() + SHIFTS)
    expected = left @ right.T
    for shift in range(1, SHIFTS):
        shifted = room[shift : shift + right.numel()].view_as(right).copy_(right)
        if not torch.equal(left @ shifted.T, expected):
            return False
    return True
