"""Tables of item vectors: the exact ones, and the possibly compressed ones that are scanned instead.

    bfloat16   half the bytes; a value keeps 8 bits
    int8       a quarter of the bytes; each dimension is divided by its own scale and the query multiplied by it, so
               that a sum of integer products is a score up to one factor for each query

The error of a score from a compressed table is at most the query's `slack`. With ~ for compressed vectors,

    |q . y - q~ . y~| <= |q| |y - y~| + |q - q~| |y~|        (Cauchy and Schwarz)

plus the rounding of both sums; the largest |y - y~|, |y~| and |y| of the table are stored for it.
"""

from __future__ import annotations

import ctypes
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal, NamedTuple

import torch
from torch import Tensor

Precision = Literal["float32", "bfloat16", "int8"]
MAX_INT8 = 127  # int8 codes are from -127 to 127
ROWS_AT_ONCE = 1 << 16
LARGE, HUGE_PAGE, MADV_COLLAPSE = 1 << 26, 1 << 21, 25  # bytes, bytes, Linux's number of the advice
# Relative errors of one operation, rounded up. The error of a sum of D products is at most D of them (Higham 2002,
# section 3.1).
ROUNDING, ROUNDING_TO_BFLOAT16 = 2.0**-23, 1.01 * 2.0**-9


class QuantizedQueries(NamedTuple):
    """B queries in the form that a table is scanned with: a score is `unit` * (codes . scanned item)."""

    codes: Tensor
    """Query vectors in the type of the scanned items, (B, D)."""
    unit: Tensor | None
    """Factor of the products, (B,); None for 1."""
    slack: Tensor
    """Maximum error of a score, (B,)."""


@dataclass(frozen=True)
class QuantizedTable:
    """N item vectors of width D."""

    exact: Tensor
    """Exact vectors, (N, D) fp32; may be mapped from a file if `scanned` is compressed."""
    scanned: Tensor
    """Vectors that are scanned, (N, D)."""
    scale: Tensor | None = None
    """Scale of each dimension of int8 codes, (D,)."""
    error: float = 0.0
    """Largest |y - y~| of the table."""
    norm: float = 0.0
    """Largest |y~| of the table, in codes."""
    length: float = 0.0
    """Largest |y| of the table."""

    @classmethod
    @torch.no_grad()
    def from_vectors(cls, vectors: Tensor, precision: Precision = "float32") -> QuantizedTable:
        """Build a table from item vectors.

        Args:
            vectors: Item vectors, (N, D); not copied if they are fp32.
            precision: Precision of the scanned vectors.

        Returns:
            The table.
        """
        vectors = vectors.detach().float()
        if precision == "float32":
            return cls(use_huge_pages(vectors), vectors)
        scale = _find_largest(vectors) / MAX_INT8 if precision == "int8" else None
        scanned = torch.empty(vectors.shape, dtype=getattr(torch, precision), device=vectors.device)
        bounds = torch.zeros(3)
        for start in range(0, len(vectors), ROWS_AT_ONCE):
            rows = vectors[start : start + ROWS_AT_ONCE]
            codes = rows.bfloat16() if scale is None else (rows / scale).round().to(torch.int8)
            scanned[start : start + ROWS_AT_ONCE] = codes
            lost = rows - (codes.float() if scale is None else codes.float() * scale)
            worst = [part.norm(dim=1).max() for part in (lost, codes.float(), rows)]
            bounds = bounds.maximum(torch.stack(worst).cpu())
        return cls(vectors, use_huge_pages(scanned), scale, *bounds.tolist())

    def __len__(self) -> int:
        return len(self.exact)

    @property
    def dim(self) -> int:
        """Width of the vectors, D."""
        return self.exact.shape[1]

    @property
    def compressed(self) -> bool:
        """True if the scanned vectors are not the exact ones."""
        return self.scanned is not self.exact

    def subsample(self, step: int) -> QuantizedTable:
        """Return a table of every `step`-th item, starting with the first, without copying.

        Args:
            step: Distance between two items.

        Returns:
            The smaller table.
        """
        scanned = self.scanned[::step]
        return replace(self, exact=self.exact[::step] if self.compressed else scanned, scanned=scanned)

    def quantize_queries(self, queries: Tensor) -> QuantizedQueries:
        """Convert queries to the form that the table is scanned with.

        Args:
            queries: Query vectors, (B, D) fp32.

        Returns:
            Codes, units and slack of the queries.
        """
        if not self.compressed:  # column-major queries are multiplied 4% faster
            return QuantizedQueries(queries.T.contiguous().T, None, queries.new_zeros(len(queries)))
        if self.scale is None:
            wide, unit, codes = queries, None, queries.bfloat16()
            seen_as, rounding = codes.float(), ROUNDING_TO_BFLOAT16 + self.dim * ROUNDING
        else:
            wide = queries * self.scale
            unit = wide.abs().amax(1).clamp(min=1e-30) / MAX_INT8  # (B,)
            codes = (wide / unit[:, None]).round().to(torch.int8)
            seen_as, rounding = codes.float() * unit[:, None], self.dim * ROUNDING
        lost, length = (wide - seen_as).norm(dim=1), queries.norm(dim=1)  # (B,)
        slack = length * (self.error + self.dim * ROUNDING * self.length)
        slack = slack + (lost + rounding * seen_as.norm(dim=1)) * self.norm
        return QuantizedQueries(codes, unit, 1.001 * slack)

    @property
    def sums(self) -> torch.dtype:
        """Type in which products are summed."""
        if self.scanned.dtype != torch.int8:
            return self.scanned.dtype
        return torch.int32 if self.scanned.is_cpu and has_integer_products() else torch.float32

    def write_products(self, coded: QuantizedQueries, start: int, out: Tensor) -> None:
        """Write the products of codes and scanned items to a tensor, as `sums`, or times `unit` in fp32.

        Args:
            coded: Quantized queries, B of them.
            start: First item.
            out: Destination, (C, B), for C items from `start` on.
        """
        items = self.scanned[start : start + len(out)]
        sums = out if out.dtype == self.sums else torch.empty_like(out, dtype=self.sums)
        if sums.dtype == torch.int32:
            torch._int_mm(items, coded.codes.T, out=sums)
        else:
            torch.mm(items.to(sums.dtype), coded.codes.to(sums.dtype).T, out=sums)
        if sums is not out:
            out.copy_(sums)
        if out.dtype == torch.float32 and coded.unit is not None:
            out *= coded.unit


def use_huge_pages(table: Tensor) -> Tensor:
    """Move a large CPU tensor to pages of 2 MiB in place, where the system supports it.

    Args:
        table: The tensor.

    Returns:
        The same tensor.
    """
    # A scan from end to end then waits less for the addresses of pages: 40 ms instead of 52 for 1M x 128, after one
    # second for the move. Linux does so from 6.1 on; elsewhere, and where it refuses, nothing changes.
    start, end = (-(-table.data_ptr() // HUGE_PAGE), (table.data_ptr() + table.nbytes) // HUGE_PAGE)
    if table.is_cpu and table.is_contiguous() and table.nbytes >= LARGE and sys.platform == "linux":
        advise = ctypes.CDLL(None).madvise
        advise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
        advise(start * HUGE_PAGE, (end - start) * HUGE_PAGE, MADV_COLLAPSE)
    return table


@lru_cache
def has_integer_products() -> bool:
    """Return whether torch's int8 product exists on this CPU, is exact and is faster than fp32."""
    codes = torch.randint(-MAX_INT8, MAX_INT8 + 1, (512, 128), generator=torch.Generator().manual_seed(0))
    narrow, wide = codes.to(torch.int8), codes.float()
    try:  # the product has no public name
        right = bool(torch.equal(torch._int_mm(narrow, narrow.T).float(), wide @ wide.T))
    except (AttributeError, RuntimeError):
        return False
    return right and _measure_cpu_time(lambda: torch._int_mm(narrow, narrow.T)) < _measure_cpu_time(
        lambda: wide @ wide.T
    )


def _measure_cpu_time(work: Callable[[], Tensor]) -> float:
    """Return the CPU time in seconds of the fastest of a few runs."""
    spent = []
    for _ in range(7):
        began = time.process_time()
        work()
        spent.append(time.process_time() - began)
    return min(spent)


def _find_largest(vectors: Tensor) -> Tensor:
    """Return the largest absolute value of each dimension, (D,)."""
    blocks = [vectors[start : start + ROWS_AT_ONCE].abs().amax(0) for start in range(0, len(vectors), ROWS_AT_ONCE)]
    return torch.stack(blocks).amax(0).clamp(min=1e-30)
