"""Scores of many queries for one block of items after another, in a buffer that stays in the cache."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from llmrec.search.quantized_table import QuantizedTable
from llmrec.search.row_pairs import RowPairs
from llmrec.search.topk_buffer import find_above

CELLS = 1 << 17  # scores of a block: a quarter of a core's cache
MIN_BLOCK_ITEMS = 256  # items of a block
GROUP = 8  # items whose maximum is compared first
COMPARED = 512  # scores compared with as many thresholds: NumPy starts a new loop for each row


class BlockScorer:
    """Scorer of B queries for one block of C items after another, in one buffer."""

    def __init__(self, table: QuantizedTable, queries: Tensor, without: RowPairs | None, bias: Tensor | None) -> None:
        """Prepare the buffer.

        Args:
            table: Item vectors, N rows of width D.
            queries: Query vectors, (B, D).
            without: (query, item) pairs to leave out.
            bias: Added to the scores of all queries, (N,).
        """
        self.table, self.bias, self.coded = table, bias, table.quantize_queries(queries)
        self.repeat = max(COMPARED // len(queries), 1)
        unit = self.repeat * GROUP
        self.width = -(-min(max(CELLS // len(queries), MIN_BLOCK_ITEMS), len(table)) // unit) * unit
        dtype = table.sums if bias is None else torch.float32
        self.unit = self.coded.unit if dtype == torch.int32 else None
        self.lowest: float = -torch.inf if dtype.is_floating_point else torch.iinfo(dtype).min
        self.buffer = torch.empty(self.width, len(queries), dtype=dtype)
        self.mask = np.empty(self.buffer.numel(), dtype=np.bool_)
        self.without, self.ends = None, list[int]()
        if without is not None:
            item, order = without.item.sort()
            self.without = RowPairs(without.query[order], item)
            starts = torch.arange(0, len(table) + self.width, self.width)
            self.ends = torch.searchsorted(item, starts).tolist()

    def compute_scores(self, start: int) -> Tensor:
        """Compute the scores (C, B) of the items from `start` on, the lowest value where no item is allowed.

        Args:
            start: First item of the block.

        Returns:
            Scores, (C, B), in the buffer.
        """
        size = min(self.width, len(self.table) - start)
        scores = self.buffer[:size]
        if size < self.width:
            self.buffer[size:] = self.lowest
        self.table.write_products(self.coded, start, scores)
        if self.bias is not None:
            scores += self.bias[start : start + size, None]
        if self.without is not None:
            place = start // self.width
            query, item = (rows[self.ends[place] : self.ends[place + 1]] for rows in self.without)
            scores[item - start, query] = self.lowest
        return self.buffer

    def find_above(self, scores: Tensor, bar: Tensor) -> tuple[Tensor, Tensor]:
        """Find all scores above a threshold.

        Args:
            scores: Scores of a block, (C, B).
            bar: Thresholds of `convert_threshold`.

        Returns:
            Positions in the block, by item and then by query, (P,), and their scores in fp32, (P,).
        """
        place = find_above(scores.view(-1, len(bar)), bar, self.mask)
        values = torch.take(scores, place)
        return place, values.float() if self.unit is None else self._to_float(
            values, self.unit[place % scores.shape[1]]
        )

    def convert_threshold(self, threshold: Tensor) -> Tensor:
        """Convert thresholds to the type of the scores, rounded down, and repeat them to COMPARED.

        Args:
            threshold: Thresholds of the queries, (B,).

        Returns:
            Repeated thresholds.
        """
        bar = threshold
        if self.unit is not None:
            bar = ((threshold / self.unit).floor() - 2).clamp(min=-(2.0**30)).int()  # above `lowest`
        elif self.buffer.dtype == torch.bfloat16:
            bar = (threshold - threshold.abs() * 2.0**-8).bfloat16()
        return bar.repeat(self.repeat)

    def find_largest(self, scores: Tensor) -> Tensor:
        """Return the largest scores of groups of the items.

        Args:
            scores: Scores of a block, (C, B).

        Returns:
            Maxima in fp32, (G, B).
        """
        return self._to_float(scores.view(GROUP, len(scores) // GROUP, -1).amax(0), self.unit)

    def _to_float(self, values: Tensor, unit: Tensor | None) -> Tensor:
        real = values.float()
        return real if unit is None else torch.where(values == self.lowest, -torch.inf, real * unit)
