"""The k best of N items for each query: exactly, in little memory, and in little more time than the products take.

Scores are made block by block in a buffer that stays in the cache. Of each block only the maxima of groups of items are
looked at: once k items are known, few groups hold a better one, and only those are opened. What is found there goes to
short lists of (score, item), packed into integers that sort as the pairs do, so that ties have a defined order: of two
items with the same score the lower row comes first.

A compressed table (`ItemTable`) is scanned by scores that are wrong by a known slack at most. Whatever could be among
the k best by that is scored again from the exact vectors; a query for which that is more than HEAD * k items scans the
exact vectors. So the answer is the exact one, whatever is scanned.

Memory beside the table, for QUERIES_AT_ONCE queries at once: CELLS scores (2 MiB), the lists (8 bytes for each of their
HEAD * k or k places), and what waits to be put on them: MOST_WAITING groups and those of one block, of about 100 bytes.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from llmrec.models.item_table import ItemTable
from llmrec.models.shortlist import ShortList, packed, true_places, unpacked

QUERIES_AT_ONCE = 512
CELLS, CELLS_ON_GPU = 1 << 19, 1 << 26  # scores at once: what fits a core's cache; what keeps a GPU busy
FEWEST = 1024  # items of a block
SAMPLE, LEAST_STEP = 8192, 8  # items that a threshold is guessed from, where that is one of eight at most
MOST_WAITING = 1 << 18  # opened groups
GROUP = 8  # items whose maximum is looked at first
GROWTH = 1.3  # of what has been scanned, between two looks at what the k best are by now
HEAD = 8  # times k candidates are kept of an inexact scan


class Found(NamedTuple):
    """(B, k) fp32 scores and int64 item rows, best first; -inf and -1 where no item is left."""

    score: Tensor
    item: Tensor


class Pairs(NamedTuple):
    """(P,) query and item rows: what each query is not to be given, such as the items of its history."""

    query: Tensor
    item: Tensor

    def to(self, device: torch.device) -> Pairs:
        return Pairs(self.query.to(device), self.item.to(device))


@torch.no_grad()
def top_k(table: ItemTable, queries: Tensor, k: int, without: Pairs | None = None, bias: Tensor | None = None) -> Found:
    """The k items with the largest query . item + bias; NaN is never among them.

    queries: (B, D). bias: (N,) for all queries alike; -inf rules an item out.

    Raises:
        ValueError: k below 1, or queries of another width than the items.
    """
    if k < 1:
        raise ValueError(f"k={k}: ask for at least one")
    if queries.ndim != 2 or queries.shape[1] != table.dim:
        raise ValueError(f"queries of shape {tuple(queries.shape)}; the items have {table.dim} dimensions")
    size, device = (len(queries), k), queries.device
    found = Found(torch.full(size, -torch.inf, device=device), torch.full(size, -1, device=device))
    most = min(k, len(table))
    for start in range(0, len(queries), QUERIES_AT_ONCE) if most else ():
        some = queries[start : start + QUERIES_AT_ONCE].float()
        rows = slice(start, start + len(some))
        best = _search(table, some, most, _of_queries(without, start, len(some)), bias)
        found.score[rows, :most], found.item[rows, :most] = best
    return found


def _search(table: ItemTable, queries: Tensor, k: int, without: Pairs | None, bias: Tensor | None) -> Found:
    head = min(HEAD * k, len(table)) if table.compressed else k
    best, sure = _scan(table, queries, k, head, without, bias), torch.ones_like(queries[:, 0], dtype=torch.bool)
    score, item = best.sorted()  # (B, HEAD * k), or (B, k)
    found = Found(score, item)
    if table.compressed:
        found, least = _rescored(table, queries, k, score, item, best.margin / 2, bias)
        if head < len(table):
            sure = score[:, -1] < least
    sure &= score[:, k - 1] >= best.guess
    again = (~sure).nonzero().flatten()
    if len(again):
        plain = _scan(table.plain(), queries[again], k, k, _of_some(without, again), bias, guess=False).sorted()
        found.score[again], found.item[again] = plain
    return found


def _scan(
    table: ItemTable,
    queries: Tensor,
    k: int,
    head: int,
    without: Pairs | None,
    bias: Tensor | None,
    guess: bool = True,
) -> ShortList:
    """The `head` best by scanned scores, but for some that are too far below the k best.

    guess: begin with a threshold guessed from a sample of the items; then the lists of some queries may be too short.
    """
    blocks = _Blocks(table, queries, without, bias)
    best, look = ShortList(k, head, blocks.n_groups, 2 * blocks.coded.slack), 0.0
    few = blocks.width < SAMPLE
    if guess and few and len(table) >= LEAST_STEP * SAMPLE:
        best.expect(*_sampled(table, queries, k, without, bias))
    for start in range(0, len(table), blocks.width):
        scores = blocks.scores(start)  # (C, B)
        largest = blocks.largest(scores)  # (G, B)
        if start == 0 and not few:
            best.expect(largest, k)  # no guess: k items reach that
        opened = true_places(~(largest <= best.threshold))  # a group with NaN is opened
        if len(opened):
            group, query = opened // len(queries), opened % len(queries)
            best.offer(query, start + group, blocks.opened(scores, query, group))
        if start + blocks.width >= look or best.n_waiting > MOST_WAITING:
            best.settle()
            look = GROWTH * (start + blocks.width)
    best.settle()
    return best


def _sampled(
    table: ItemTable, queries: Tensor, k: int, without: Pairs | None, bias: Tensor | None
) -> tuple[Tensor, int]:
    """Largest scores (G, B) of groups of sampled items; and how many of the sample are better than all but the k best
    of the table, with next to no chance of more: their number is binomial.
    """
    step = len(table) // SAMPLE
    few, pairs = table.every(step), None
    if without is not None:
        mine = without.item % step == 0
        pairs = Pairs(without.query[mine], without.item[mine] // step)
    blocks = _Blocks(few, queries, pairs, None if bias is None else bias[::step])
    largest = [blocks.largest(blocks.scores(start)) for start in range(0, len(few), blocks.width)]
    return torch.cat(largest), math.ceil(k / step + 4 * math.sqrt(k / step)) + 2


class _Blocks:
    """Scores of B queries for one block of items after the other, in one buffer. G groups: of every G-th item each."""

    def __init__(self, table: ItemTable, queries: Tensor, without: Pairs | None, bias: Tensor | None) -> None:
        self.table, self.bias, self.coded = table, bias, table.code(queries)
        cells = CELLS if queries.is_cpu else CELLS_ON_GPU
        self.n_groups = -(-min(max(cells // len(queries), FEWEST), len(table)) // GROUP)
        self.width = self.n_groups * GROUP
        dtype = table.sums if bias is None else torch.float32
        self.unit = self.coded.unit if dtype == torch.int32 else None
        self.lowest: float = -torch.inf if dtype.is_floating_point else torch.iinfo(dtype).min
        self.buffer = torch.empty(self.width, len(queries), dtype=dtype, device=queries.device)
        self.without, self.ends = None, list[int]()
        if without is not None:
            item, order = without.item.sort()
            self.without = Pairs(without.query[order], item)
            starts = torch.arange(0, len(table) + self.width, self.width, device=item.device)
            self.ends = torch.searchsorted(item, starts).tolist()

    def scores(self, start: int) -> Tensor:
        """(C, B) of the items from `start` on; the lowest there is where no item is, or may be."""
        size = min(self.width, len(self.table) - start)
        self.buffer[size:] = self.lowest
        scores = self.buffer[:size]
        self.table.products(self.coded, start, scores)
        if self.bias is not None:
            scores += self.bias[start : start + size, None]
        if self.without is not None:
            place = start // self.width
            query, item = (rows[self.ends[place] : self.ends[place + 1]] for rows in self.without)
            scores[item - start, query] = self.lowest
        return self.buffer

    def largest(self, scores: Tensor) -> Tensor:
        """(G, B) fp32."""
        return self._real(scores.view(GROUP, self.n_groups, -1).amax(0), self.unit)

    def opened(self, scores: Tensor, query: Tensor, group: Tensor) -> Tensor:
        """(GROUP, P) fp32 of groups (P,)."""
        opened = scores.view(GROUP, self.n_groups, -1)[:, group, query]
        return self._real(opened, None if self.unit is None else self.unit[query])

    def _real(self, values: Tensor, unit: Tensor | None) -> Tensor:
        real = values.float()
        if unit is None:
            return real
        return torch.where(values == self.lowest, -torch.inf, real * unit)


def _rescored(
    table: ItemTable, queries: Tensor, k: int, score: Tensor, item: Tensor, slack: Tensor, bias: Tensor | None
) -> tuple[Found, Tensor]:
    """The k best of scanned candidates (B, C), best first, by their exact vectors; and (B,) the scanned score below
    which none can be among them."""
    none = score == -torch.inf
    exact = torch.full_like(score, -torch.inf)
    exact[:, :k] = _exact(table, queries, item[:, :k], bias).masked_fill(none[:, :k], -torch.inf)
    # The k-th best is no worse than the worst of these.
    least = exact[:, :k].amin(1) - slack  # (B,)
    wanted = int((score >= least[:, None]).sum(1).max())
    if wanted > k:
        more = slice(k, wanted)
        out = none[:, more] | (score[:, more] < least[:, None])
        exact[:, more] = _exact(table, queries, item[:, more], bias).masked_fill(out, -torch.inf)
    kept = max(wanted, k)
    keys = packed(exact[:, :kept], item[:, :kept].clamp(min=0))
    return Found(*unpacked(keys.topk(k, dim=1).values)), least


def _exact(table: ItemTable, queries: Tensor, item: Tensor, bias: Tensor | None) -> Tensor:
    """(B, C) scores of items (B, C) by their exact vectors."""
    rows = item.clamp(min=0)
    some = max(CELLS // (rows.shape[1] * table.dim), 1)
    parts = [
        torch.bmm(functional.embedding(part, table.exact), queries[start : start + some, :, None]).squeeze(2)
        for start, part in zip(range(0, len(rows), some), torch.split(rows, some), strict=True)
    ]
    exact = torch.cat(parts)
    return exact if bias is None else exact + bias[rows]


def _of_queries(without: Pairs | None, start: int, size: int) -> Pairs | None:
    """The pairs of queries from `start` on, which is 0 to them."""
    if without is None:
        return None
    mine = (without.query >= start) & (without.query < start + size)
    return Pairs(without.query[mine] - start, without.item[mine])


def _of_some(without: Pairs | None, queries: Tensor) -> Pairs | None:
    """The pairs of some queries (ascending), which are counted anew."""
    if without is None:
        return None
    mine = torch.isin(without.query, queries)
    return Pairs(torch.searchsorted(queries, without.query[mine]), without.item[mine])
