"""Pairs of a query and an item that a search leaves out."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class RowPairs(NamedTuple):
    """P pairs of a query and an item to leave out, such as the items of its history."""

    query: Tensor
    """Query rows, (P,)."""
    item: Tensor
    """Item rows, (P,)."""

    def to(self, device: torch.device) -> RowPairs:
        """Copy the pairs to a device.

        Args:
            device: Target device.

        Returns:
            The pairs on that device.
        """
        return RowPairs(self.query.to(device), self.item.to(device))

    def slice_queries(self, start: int, size: int) -> RowPairs:
        """Select the pairs of consecutive queries.

        Args:
            start: First query.
            size: Number of queries.

        Returns:
            Their pairs, with queries numbered from 0.
        """
        kept = (self.query >= start) & (self.query < start + size)
        return RowPairs(self.query[kept] - start, self.item[kept])

    def select_queries(self, queries: Tensor) -> RowPairs:
        """Select the pairs of some queries.

        Args:
            queries: Query rows, ascending.

        Returns:
            Their pairs, with queries numbered from 0.
        """
        kept = torch.isin(self.query, queries)
        return RowPairs(torch.searchsorted(queries, self.query[kept]), self.item[kept])
