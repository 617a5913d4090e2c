"""Types of arrays, ranges of rows, and sparse tables."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Rows = NDArray[np.int64]
Mask = NDArray[np.bool_]
Arrays = dict[str, NDArray[Any]]
EPS = 0.1  # events; what an item counts that nobody touched
LARGEST_EXPONENT = 500.0  # of 2; float64 holds up to 1023
ROUNDING = 1e-12  # what is left of a sum of which all was taken back, in proportion
NEVER = int(np.iinfo(np.int64).min)  # stands for a time that is not known, where a number has to stand


def pad_ranges(start: Rows, end: Rows) -> tuple[Rows, Mask]:
    """Positions (B, T) start, start + 1, ... of each range, padded right with 0, and their mask."""
    steps = np.arange(max(int((end - start).max(initial=0)), 1))
    mask = steps < (end - start)[:, None]
    return np.where(mask, start[:, None] + steps, 0), mask


def concat_ranges(counts: Rows) -> Rows:
    """0 .. counts[0] - 1, 0 .. counts[1] - 1, ... in one array."""
    return np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)


def resize_sparse(table: sparse.csr_array, shape: tuple[int, int]) -> sparse.csr_array:
    """The same numbers, not copied, in a table with more rows and columns; those are empty."""
    ends = np.pad(table.indptr, (0, shape[0] - table.shape[0]), mode="edge")
    return sparse.csr_array((table.data, table.indices, ends), shape=shape)


def merge_small_tables(tables: list[sparse.csr_array]) -> None:
    """Add up the last tables, in place, until each is at least twice as large as the next."""
    while len(tables) > 1 and tables[-2].nnz < 2 * tables[-1].nnz:
        tables.append(tables.pop() + tables.pop())
