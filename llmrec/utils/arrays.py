"""Array types, ranges of rows and sparse tables."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Rows = NDArray[np.int64]
Mask = NDArray[np.bool_]
Arrays = dict[str, NDArray[Any]]
EPS = 0.1  # events; the count of an item without events
MAX_EXPONENT = 500.0  # of 2; float64 holds up to 1023
ROUNDING = 1e-12  # relative remainder of a sum from which all terms were subtracted
NO_TIME = int(np.iinfo(np.int64).min)  # represents an unknown time where a number is needed


def pad_ranges(start: Rows, end: Rows) -> tuple[Rows, Mask]:
    """Return the positions of each range, padded on the right.

    Args:
        start: First position of each range, (B,).
        end: Exclusive end of each range, (B,).

    Returns:
        Positions start, start + 1, ..., (B, T), padded with 0, and their mask, (B, T).
    """
    steps = np.arange(max(int((end - start).max(initial=0)), 1))
    mask = steps < (end - start)[:, None]
    return np.where(mask, start[:, None] + steps, 0), mask


def concat_ranges(counts: Rows) -> Rows:
    """Return 0 .. counts[0] - 1, 0 .. counts[1] - 1, ... in one array.

    Args:
        counts: Length of each range, (n,).

    Returns:
        Positions, (sum of counts,).
    """
    return np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)


def resize_sparse(table: sparse.csr_array, shape: tuple[int, int]) -> sparse.csr_array:
    """Return a sparse table with more rows and columns, which are empty; the numbers are not copied.

    Args:
        table: Sparse table.
        shape: New shape, at least as large.

    Returns:
        The larger table.
    """
    ends = np.pad(table.indptr, (0, shape[0] - table.shape[0]), mode="edge")
    return sparse.csr_array((table.data, table.indices, ends), shape=shape)


def merge_small_tables(tables: list[sparse.csr_array]) -> None:
    """Add up the last tables, in place, until each is at least twice as large as the next.

    Args:
        tables: Sparse tables of one shape; their sum does not change.
    """
    while len(tables) > 1 and tables[-2].nnz < 2 * tables[-1].nnz:
        tables.append(tables.pop() + tables.pop())
