"""Exact search of the k best of N items for each query, at about the cost of the products alone."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from llmrec.search.block_scorer import CELLS, GROUP, BlockScorer
from llmrec.search.quantized_table import QuantizedTable
from llmrec.search.row_pairs import RowPairs
from llmrec.search.topk_buffer import TopKBuffer, pack_keys, unpack_keys

# Few scores are computed in one product (`_search_exact`), and so are all on a GPU, some queries at a time. On a CPU,
# many scores are computed block by block in a buffer that stays in the cache, and only those above a threshold are
# kept: it is guessed from a sample of the items, so that few pass, and rises with the results. They go to short lists
# of (score, item), packed into integers that sort as the pairs do, so that ties have a defined order: of two items
# with the same score the lower row comes first. If the guess proves too high for a query, all of its scores are
# computed in one product.
#
# A compressed table (`QuantizedTable`) is scanned with scores whose error is at most a known slack. All items that may
# be among the k best are scored again from the exact vectors; a query for which these are more than HEAD * k is scored
# against all exact vectors. The result is therefore exact, whatever is scanned.
#
# Memory in addition to the table, for QUERIES_AT_ONCE queries: CELLS scores (512 KiB), or PLAIN_CELLS of them (32 MiB),
# the lists (8 bytes for each of their HEAD * k or k places), and 12 bytes for each score that waits to be added to
# them: MAX_PENDING and those of one block.
QUERIES_AT_ONCE = 512
PLAIN_CELLS = 1 << 23  # up to this many scores, one product is faster than a scan: measured
PLAIN_CELLS_GPU = 1 << 27  # half a GiB
SAMPLE = 8192  # items from which a threshold is guessed
SMALL, MANY = 1 << 15, 32  # no threshold is guessed for fewer items, or if more than one in so many is wanted
GROUP_GPU = 64  # items whose maximum is compared first; on a CPU, GROUP
GROUPED, GROUPED_GPU = 1 << 18, 1 << 24  # scores from which on that is faster: measured
MAX_PENDING = 1 << 19  # scores above the threshold
GROWTH = 1.5  # of the scanned items, between two updates of the threshold
HEAD = 8  # times k candidates are kept of an inexact scan


class TopK(NamedTuple):
    """Best items of B queries, best first; -inf and -1 where no item is left."""

    score: Tensor
    """Scores, (B, k) fp32."""
    item: Tensor
    """Item rows, (B, k) int64."""


@torch.no_grad()
def top_k(
    table: QuantizedTable, queries: Tensor, k: int, *, without: RowPairs | None = None, bias: Tensor | None = None
) -> TopK:
    """Return the k items with the largest dot product plus bias for each query; NaN is never among them.

    Args:
        table: Item vectors, N rows of width D.
        queries: Query vectors, (B, D).
        k: Items per query, at least 1.
        without: (query, item) pairs to leave out, such as items already seen.
        bias: Added to the scores of all queries, (N,); -inf excludes an item.

    Returns:
        Scores and item rows, (B, k) each, best first; -inf and -1 where no item is left.

    Raises:
        ValueError: If k is below 1 or the widths differ.
    """
    if k < 1:
        raise ValueError(f"k={k}: below 1. Set k to at least 1.")
    if queries.ndim != 2 or queries.shape[1] != table.dim:
        raise ValueError(
            f"queries: shape {tuple(queries.shape)}, but items have width {table.dim}. Give queries of that width."
        )
    most = min(k, len(table))
    if not most or not len(queries):
        size, device = (len(queries), k), queries.device
        return TopK(torch.full(size, -torch.inf, device=device), torch.full(size, -1, device=device))
    parts: list[TopK] = []
    for start in range(0, len(queries), QUERIES_AT_ONCE):
        some = queries[start : start + QUERIES_AT_ONCE].float()
        parts.append(_search(table, some, most, without and without.slice_queries(start, QUERIES_AT_ONCE), bias=bias))
    found = _concat(parts)
    if most == k:
        return found
    pad = (0, k - most)
    return TopK(functional.pad(found.score, pad, value=-torch.inf), functional.pad(found.item, pad, value=-1))


def _search(table: QuantizedTable, queries: Tensor, k: int, without: RowPairs | None, *, bias: Tensor | None) -> TopK:
    few = len(table) * len(queries) <= PLAIN_CELLS and not table.compressed  # exact vectors may be on disk
    if few or not queries.is_cpu or len(table) < SMALL or MANY * k > len(table):
        return _search_exact(table.exact, queries, k, without, bias=bias)
    best = _scan(table, queries, k, HEAD * k if table.compressed else k, without=without, bias=bias)
    score, item = best.to_sorted()  # (B, HEAD * k), or (B, k)
    found, sure = TopK(score, item), score[:, k - 1] >= best.guess
    if table.compressed:
        found, least = _rescore(table, queries, k, score, item=item, slack=best.margin / 2, bias=bias)
        sure &= score[:, -1] < least
    again = (~sure).nonzero().flatten()
    if len(again):
        found.score[again], found.item[again] = _search_exact(
            table.exact, queries[again], k, without and without.select_queries(again), bias=bias
        )
    return found


def _search_exact(items: Tensor, queries: Tensor, k: int, without: RowPairs | None, *, bias: Tensor | None) -> TopK:
    """Select from all scores (B, N), some queries at a time, in one buffer."""
    size = max((PLAIN_CELLS if queries.is_cpu else PLAIN_CELLS_GPU) // len(items), 1)
    buffer = torch.empty(size, len(items), device=queries.device) if size < len(queries) else None
    parts: list[TopK] = []
    for start in range(0, len(queries), size):
        some = queries[start : start + size]
        scores = torch.mm(some, items.T, out=None if buffer is None else buffer[: len(some)])
        if bias is not None:
            scores += bias
        if without is not None:
            pairs = without.slice_queries(start, size)
            scores[pairs.query, pairs.item] = -torch.inf
        parts.append(_sort_top(scores, k))
    return _concat(parts)


def _sort_top(scores: Tensor, k: int) -> TopK:
    """Return the k best of scores (B, N), ties by row."""
    best, item = _select_by_groups(scores, min(k + 1, scores.shape[1]))
    values: Any = best.numpy() if best.is_cpu else best  # NumPy compares a few numbers in a fraction of the time
    clear = (values[:, :-1] > values[:, 1:]).all(1) & (values[:, k - 1] > -torch.inf)  # no ties, no NaN, k items
    best, item = best[:, :k], item[:, :k]
    if not bool(clear.all()):
        of_query = torch.as_tensor(~clear).nonzero().flatten()
        some = scores[of_query]
        keys = pack_keys(some.masked_fill_(some.isnan(), -torch.inf), torch.arange(some.shape[1], device=some.device))
        best[of_query], item[of_query] = unpack_keys(keys.topk(k).values)
    return TopK(best, item)


def _select_by_groups(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return `topk` of scores (B, N) from the groups with the k largest maxima, with ties in no order."""
    # An item among the k best is in a group whose maximum is among the k largest. Of ties for the last place, some may
    # be missed.
    size, least = (GROUP, GROUPED) if scores.is_cpu else (GROUP_GPU, GROUPED_GPU)
    n_items = scores.shape[1]
    if scores.numel() < least or n_items < 3 * size * k:
        return scores.topk(k)
    n_groups = n_items // size
    whole = n_groups * size
    groups = torch.unflatten(scores[:, :whole], 1, (size, n_groups))  # each group is a column
    chosen = groups.amax(1).topk(k, sorted=False).indices  # (B, k)
    some = groups.gather(2, chosen[:, None].expand(-1, size, -1)).flatten(1)  # (B, size * k)
    best, place = torch.cat([some, scores[:, whole:]], dim=1).topk(k)
    inside = place // k * n_groups + chosen.gather(1, place % k)
    return best, torch.where(place < size * k, inside, whole + place - size * k)


def _concat(parts: list[TopK]) -> TopK:
    return parts[0] if len(parts) == 1 else TopK(*map(torch.cat, zip(*parts, strict=True)))


def _scan(
    table: QuantizedTable, queries: Tensor, k: int, head: int, *, without: RowPairs | None, bias: Tensor | None
) -> TopKBuffer:
    """Return the `head` best by scanned scores, too few if the threshold was guessed too high."""
    # Items that are too far below the k best to matter may be missing.
    blocks = BlockScorer(table, queries, without, bias)
    best = TopKBuffer(k, head, 2 * blocks.coded.slack)
    largest, place = _sample_scores(table, queries, k, without, bias=bias)
    best.guess_threshold(largest, place)
    # As many pass the guess as are among the best of SAMPLE * k / place items: fewer do not raise the threshold.
    look = GROWTH * SAMPLE * k / place
    bar = blocks.convert_threshold(best.threshold)
    for start in range(0, len(table), blocks.width):
        best.add(start, *blocks.find_above(blocks.compute_scores(start), bar))
        if start + blocks.width >= look or best.n_waiting > MAX_PENDING:
            best.compact()
            bar, look = blocks.convert_threshold(best.threshold), GROWTH * (start + blocks.width)
    best.compact()
    return best


def _sample_scores(
    table: QuantizedTable, queries: Tensor, k: int, without: RowPairs | None, *, bias: Tensor | None
) -> tuple[Tensor, int]:
    """Return the largest scores (G, B) of groups of sampled items, and the rank in them of the threshold."""
    # With next to no chance of more, the sample has fewer than `rank` of the table's k best: their number is binomial.
    step = len(table) // SAMPLE
    few, pairs = table.subsample(step), None
    if without is not None:
        sampled = without.item % step == 0
        pairs = RowPairs(without.query[sampled], without.item[sampled] // step)
    blocks = BlockScorer(few, queries, pairs, None if bias is None else bias[::step])
    largest = [blocks.find_largest(blocks.compute_scores(start)) for start in range(0, len(few), blocks.width)]
    return torch.cat(largest), math.ceil(k / step + 4 * math.sqrt(k / step)) + 2


def _rescore(
    table: QuantizedTable, queries: Tensor, k: int, score: Tensor, *, item: Tensor, slack: Tensor, bias: Tensor | None
) -> tuple[TopK, Tensor]:
    """Rescore scanned candidates (B, C), best first, by their exact vectors."""
    # Returns the k best, and the scanned score (B,) below which no item can be among them.
    none = score == -torch.inf
    exact = torch.full_like(score, -torch.inf)
    exact[:, :k] = _compute_exact_scores(table, queries, item[:, :k], bias).masked_fill(none[:, :k], -torch.inf)
    # The k-th best score is at least the lowest of these.
    least = exact[:, :k].amin(1) - slack  # (B,)
    wanted = int((score >= least[:, None]).sum(1).max())
    if wanted > k:
        more = slice(k, wanted)
        out = none[:, more] | (score[:, more] < least[:, None])
        exact[:, more] = _compute_exact_scores(table, queries, item[:, more], bias).masked_fill(out, -torch.inf)
    kept = max(wanted, k)
    keys = pack_keys(exact[:, :kept], item[:, :kept].clamp(min=0))
    return TopK(*unpack_keys(keys.topk(k, dim=1).values)), least


def _compute_exact_scores(table: QuantizedTable, queries: Tensor, item: Tensor, bias: Tensor | None) -> Tensor:
    """Compute the scores (B, C) of items (B, C) by their exact vectors."""
    rows = item.clamp(min=0)
    some = max(CELLS // (rows.shape[1] * table.dim), 1)
    parts = [
        torch.bmm(functional.embedding(part, table.exact), queries[start : start + some, :, None]).squeeze(2)
        for start, part in zip(range(0, len(rows), some), torch.split(rows, some), strict=True)
    ]
    exact = torch.cat(parts)
    return exact if bias is None else exact + bias[rows]
