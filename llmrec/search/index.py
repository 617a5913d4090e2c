"""Where the nearest items are looked up: one protocol, and the exact index as the default; `indexes` has others.

An index holds item rows (any distinct int64 from 0) with their vectors, and finds those with the largest dot product.
What is added or removed counts from the next search on. Filters are masks: conditions on fields
(`ranked_items.filter_mask`), what is in stock, or what was released by a day are each made into one, and combined,
before an index is asked.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from llmrec.errors import ConfigError
from llmrec.search.quantized_table import Precision, QuantizedTable
from llmrec.search.topk import TopK, top_k
from llmrec.utils.arrays import Mask, Rows


class ItemIndex(Protocol):
    """Items by row, found by the dot product with a query."""

    def __len__(self) -> int: ...

    def add(self, rows: Rows, vectors: Tensor) -> None:
        """Take in items (C,) with vectors (C, D).

        Raises:
            ConfigError: a row that is held already or given twice, or vectors that do not fit.
        """
        ...

    def remove(self, rows: Rows) -> None:
        """Forget items; rows that are not held are passed over."""
        ...

    def search(self, queries: Tensor, k: int, allowed: Mask | None = None) -> TopK:
        """The k items with the largest product for each query (B, D); an approximate index may give others for some.
        allowed: by row; rows beyond its end are not.
        """
        ...


class ExactIndex:
    """Finds the best there are, by `top_k`; ties by row. precision: of what is scanned; the answer is the same."""

    def __init__(self, dim: int, precision: Precision = "float32") -> None:
        self.precision: Precision = precision
        self.rows: Rows = np.zeros(0, dtype=np.int64)  # ascending
        self.table = QuantizedTable.from_vectors(torch.zeros(0, dim))

    def __len__(self) -> int:
        return len(self.rows)

    def add(self, rows: Rows, vectors: Tensor) -> None:
        validate_new_rows(rows, vectors, self.rows, self.table.dim)
        together, values = np.concatenate([self.rows, rows]), torch.cat([self.table.exact, vectors.float()])
        if (np.diff(together) < 0).any():  # most items come last
            order = np.argsort(together)
            together, values = together[order], values[torch.from_numpy(order)]
        self._store(together, values)

    def remove(self, rows: Rows) -> None:
        kept = ~np.isin(self.rows, rows)
        self._store(self.rows[kept], self.table.exact[torch.from_numpy(kept)])

    def search(self, queries: Tensor, k: int, allowed: Mask | None = None) -> TopK:
        bias = None
        if allowed is not None:
            bias = torch.zeros(len(self))
            bias[torch.from_numpy(~allowed_mask(allowed, self.rows))] = -torch.inf
        score, place = top_k(self.table, queries, k, bias=bias)
        if not len(self):
            return TopK(score, place)
        return TopK(score, torch.from_numpy(self.rows)[place.clamp(min=0)].masked_fill(place < 0, -1))

    def _store(self, rows: Rows, vectors: Tensor) -> None:
        self.rows, self.table = rows, QuantizedTable.from_vectors(vectors, self.precision if len(rows) else "float32")


def recall_at_k(found: TopK, exact: TopK) -> float:
    """The mean share of the exact index's items that were found."""
    there = (exact.item[:, :, None] == found.item[:, None, :]).any(2)  # (B, k)
    held = exact.item >= 0
    return float((there & held).sum() / held.sum().clamp(min=1))


def empty_result(queries: Tensor, k: int) -> TopK:
    return TopK(torch.full((len(queries), k), -torch.inf), torch.full((len(queries), k), -1))


def allowed_mask(allowed: Mask, rows: Rows) -> Mask:
    """(C,) whether rows are allowed by a mask, which they may lie beyond the ends of."""
    inside = (rows >= 0) & (rows < len(allowed))
    found: Mask = np.zeros(len(rows), dtype=np.bool_)
    found[inside] = allowed[rows[inside]]
    return found


def validate_new_rows(rows: Rows, vectors: Tensor, held: Rows, dim: int) -> None:
    """Raises ConfigError where items cannot be added to those that are held."""
    if vectors.shape != (len(rows), dim):
        raise ConfigError(f"vectors of shape {tuple(vectors.shape)} for {len(rows)} items; give ({len(rows)}, {dim})")
    if len(np.unique(rows)) < len(rows) or np.isin(rows, held).any() or (rows < 0).any():
        raise ConfigError("rows: each is to be new, given once, and from 0; remove an item before it is added again")
