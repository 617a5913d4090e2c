"""Protocol of an index of item vectors, and the exact index, which is the default.

An index maps item rows (distinct int64, 0 or more) to vectors and finds those with the largest dot product. Added and
removed items are visible to the next search. Filters are masks: conditions on fields (`ranked_items.filter_mask`),
stock and release dates are each turned into a mask and combined before a search.
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
    """Items by row, found by their dot product with a query."""

    def __len__(self) -> int: ...

    def add(self, rows: Rows, vectors: Tensor) -> None:
        """Add items.

        Args:
            rows: Item rows, (C,).
            vectors: Item vectors, (C, D).

        Raises:
            ConfigError: If a row is in the index already or occurs twice, or the vectors have the wrong shape.
        """
        ...

    def remove(self, rows: Rows) -> None:
        """Remove items; rows that are not in the index are ignored.

        Args:
            rows: Item rows.
        """
        ...

    def search(self, queries: Tensor, k: int, *, allowed: Mask | None = None) -> TopK:
        """Find the items with the largest dot product for each query; an approximate index may miss some.

        Args:
            queries: Query vectors, (B, D).
            k: Items per query.
            allowed: Mask by item row; rows beyond its end are not allowed. None allows all.

        Returns:
            Scores and item rows, (B, k), best first; -inf and -1 where no item is left.
        """
        ...


class ExactIndex:
    """Index that finds the exact best items with `top_k`; ties are ordered by row.

    Args:
        dim: Width of the vectors, D.
        precision: Precision of the scanned vectors; the result is the same for all.
    """

    def __init__(self, dim: int, precision: Precision = "float32") -> None:
        self.precision: Precision = precision
        self.rows: Rows = np.zeros(0, dtype=np.int64)  # ascending
        self.table = QuantizedTable.from_vectors(torch.zeros(0, dim))

    def __len__(self) -> int:
        return len(self.rows)

    def add(self, rows: Rows, vectors: Tensor) -> None:
        """Add items.

        Args:
            rows: Item rows, (C,).
            vectors: Item vectors, (C, D).

        Raises:
            ConfigError: If a row is in the index already or occurs twice, or the vectors have the wrong shape.
        """
        validate_new_rows(rows, vectors, self.rows, self.table.dim)
        together, values = np.concatenate([self.rows, rows]), torch.cat([self.table.exact, vectors.float()])
        if (np.diff(together) < 0).any():  # usually new items have the largest rows
            order = np.argsort(together)
            together, values = together[order], values[torch.from_numpy(order)]
        self._store(together, values)

    def remove(self, rows: Rows) -> None:
        """Remove items; rows that are not in the index are ignored.

        Args:
            rows: Item rows.
        """
        kept = ~np.isin(self.rows, rows)
        self._store(self.rows[kept], self.table.exact[torch.from_numpy(kept)])

    def search(self, queries: Tensor, k: int, *, allowed: Mask | None = None) -> TopK:
        """Find the items with the largest dot product for each query.

        Args:
            queries: Query vectors, (B, D).
            k: Items per query.
            allowed: Mask by item row; rows beyond its end are not allowed. None allows all.

        Returns:
            Scores and item rows, (B, k), best first; -inf and -1 where no item is left.
        """
        bias = None
        if allowed is not None:
            bias = torch.zeros(len(self))
            bias[torch.from_numpy(~allowed_mask(allowed, self.rows))] = -torch.inf
        score, position = top_k(self.table, queries, k, bias=bias)
        if not len(self):
            return TopK(score, position)
        return TopK(score, torch.from_numpy(self.rows)[position.clamp(min=0)].masked_fill(position < 0, -1))

    def _store(self, rows: Rows, vectors: Tensor) -> None:
        self.rows, self.table = rows, QuantizedTable.from_vectors(vectors, self.precision if len(rows) else "float32")


def recall_at_k(found: TopK, exact: TopK) -> float:
    """Compute the mean share of the exact items that an index found.

    Args:
        found: Results of the index, (B, k).
        exact: Results of the exact index, (B, k).

    Returns:
        Recall, 0 to 1.
    """
    there = (exact.item[:, :, None] == found.item[:, None, :]).any(2)  # (B, k)
    held = exact.item >= 0
    return float((there & held).sum() / held.sum().clamp(min=1))


def empty_result(queries: Tensor, k: int) -> TopK:
    """Return results without items.

    Args:
        queries: Query vectors, (B, D).
        k: Items per query.

    Returns:
        Scores of -inf and item rows of -1, (B, k).
    """
    return TopK(torch.full((len(queries), k), -torch.inf), torch.full((len(queries), k), -1))


def allowed_mask(allowed: Mask, rows: Rows) -> Mask:
    """Look up rows in a mask; rows beyond its ends are not allowed.

    Args:
        allowed: Mask by item row.
        rows: Item rows, (C,).

    Returns:
        True for allowed rows, (C,).
    """
    inside = (rows >= 0) & (rows < len(allowed))
    found: Mask = np.zeros(len(rows), dtype=np.bool_)
    found[inside] = allowed[rows[inside]]
    return found


def validate_new_rows(rows: Rows, vectors: Tensor, held: Rows, dim: int) -> None:
    """Check that items can be added to an index.

    Args:
        rows: Item rows to add, (C,).
        vectors: Their vectors, (C, D).
        held: Item rows in the index.
        dim: Width of the vectors, D.

    Raises:
        ConfigError: If a row is in the index already, occurs twice or is negative, or the vectors have the wrong shape.
    """
    if vectors.shape != (len(rows), dim):
        raise ConfigError(f"vectors: shape {tuple(vectors.shape)} for {len(rows)} items. Give ({len(rows)}, {dim}).")
    if len(np.unique(rows)) < len(rows) or np.isin(rows, held).any() or (rows < 0).any():
        raise ConfigError("rows: some are negative, repeated or in the index. Remove an item before you add it again.")
