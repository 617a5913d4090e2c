"""Rank of each query's target among all items of the catalog.

The rank is 1 + #(items with a higher score) + 0.5 * #(other items with the same score), the expected rank if ties are
broken at random. Items of the history are masked (unless the task is repeat consumption); the target never is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from llmrec.data.histories import Queries
from llmrec.errors import LlmrecError
from llmrec.evaluation.metrics import Values, ndcg_at
from llmrec.utils.arrays import Mask, Rows

# Many published ranks are too good because every tie wins, or because seen items are not masked. Memory is bounded by
# batch_size * N scores, at most `SCORES` of them with `query_batch_size`.
MAX_BATCH_SCORES = 1 << 18  # scores that are ranked at a time: 1 MiB
EXACT_IN_FP32 = 1 << 24  # whole numbers up to here
BATCH, SCORES = 256, 1 << 28  # queries that are scored at a time; fewer if their scores would exceed 1 GiB


class ScoreError(LlmrecError, ValueError):
    """Scores that cannot be ranked: NaN, or not one for each query and item."""


class Scorer(Protocol):
    """Scorer of the whole catalog for each query, from what was known before the query time."""

    def score(self, queries: Queries) -> Tensor:
        """Score the whole catalog for each query.

        Args:
            queries: Queries, B of them.

        Returns:
            Scores, (B, N) float32, higher is better; -inf excludes an item.
        """
        ...


@dataclass(frozen=True, slots=True)
class Ranking:
    """Ranks of the targets of Q queries, and the best items."""

    rank: Values
    """Rank of each target from 1, (Q,) float64."""
    top: Rows
    """Item rows, (Q, n_top), best first; -1 where no item is left."""
    in_pool: Values | None = None
    """Rank of each target among the items of a pool alone, (Q,), NaN where it is not in the pool; None without one."""


def rank_queries(
    scorer: Scorer,
    queries: Queries,
    *,
    n_top: int = 20,
    mask_seen: bool = True,
    batch_size: int = BATCH,
    available: Rows | None = None,
    pool: Mask | None = None,
    progress: str | None = None,
) -> Ranking:
    """Rank the target of every query against the whole catalog.

    Args:
        scorer: Scorer of the catalog.
        queries: Queries, Q of them.
        n_top: Number of best items to return.
        mask_seen: Whether to mask the items of the history.
        batch_size: Number of queries to score at a time.
        available: Release times in seconds, (N,); an item is masked for queries before its release. Use this only for
            catalogs with release dates: the first time in the log would reveal which items have a future.
        pool: Items among which targets in it are also ranked by themselves, (N,), such as new items; None for none.
        progress: Title of a progress bar; None shows none, and neither does an output that is not a terminal.

    Returns:
        Ranks and best items.

    Raises:
        ScoreError: If a score is NaN, or the scores are not (queries, items).
    """
    ranks: list[Values] = []
    tops: list[Rows] = []
    pooled: list[Values] = []
    starts = tqdm(range(0, len(queries), batch_size), desc=progress, unit="batch", disable=progress is None or None)
    with torch.inference_mode():
        for start in starts:
            batch = queries.take(slice(start, start + batch_size))
            scores = _check_scores(scorer.score(batch), batch)
            masked = mask_items(batch, scores.shape[1], mask_seen=mask_seen, available=available).to(scores.device)
            rank, top = _rank_batch(scores, masked, torch.from_numpy(batch.target).to(scores.device), n_top)
            ranks.append(rank.cpu().numpy())
            tops.append(top.cpu().numpy())
            if pool is not None:
                pooled.append(_rank_in_pool(scores, masked, batch.target, pool))
    if not ranks:
        return Ranking(np.zeros(0), np.zeros((0, n_top), dtype=np.int64))
    return Ranking(np.concatenate(ranks), np.concatenate(tops), np.concatenate(pooled) if pooled else None)


def query_batch_size(n_items: int) -> int:
    """Return the number of queries to score at a time: 256 up to a million items, 26 at ten million.

    Args:
        n_items: Number of items of the catalog.

    Returns:
        Number of queries, at least 1.
    """
    return max(min(BATCH, SCORES // max(n_items, 1)), 1)


def mean_ndcg(
    scorer: Scorer, queries: Queries, *, k: int = 10, mask_seen: bool = True, batch_size: int = BATCH
) -> float:
    """Compute the mean NDCG@k over queries, which tuning and early stopping use.

    Args:
        scorer: Scorer of the catalog.
        queries: Queries, Q of them.
        k: Number of items.
        mask_seen: Whether to mask the items of the history.
        batch_size: Number of queries to score at a time.

    Returns:
        Mean, 0 to 1.
    """
    ranking = rank_queries(scorer, queries, n_top=0, mask_seen=mask_seen, batch_size=batch_size)
    return float(ndcg_at(ranking.rank, k).mean())


def sample_queries(queries: Queries, most: int, *, seed: int = 0) -> Queries:
    """Draw some of the queries without replacement; they stay in time order.

    Args:
        queries: Queries, Q of them.
        most: Maximum number of queries.
        seed: Seed of the draw.

    Returns:
        The drawn queries, or all if there are no more than `most`.
    """
    if len(queries) <= most:
        return queries
    chosen = np.random.default_rng(seed).choice(len(queries), most, replace=False)
    return queries.take(np.sort(chosen))


def mask_items(queries: Queries, n_items: int, *, mask_seen: bool, available: Rows | None) -> Tensor:
    """Return the items that cannot be recommended; the target is never among them.

    Args:
        queries: Queries, B of them.
        n_items: Number of items of the catalog, N.
        mask_seen: Whether to mask the items of the history.
        available: Release times in seconds, (N,); None if there are none.

    Returns:
        True for masked items, (B, N).
    """
    masked: Mask = np.zeros((len(queries), n_items), dtype=np.bool_)
    if mask_seen:
        masked[queries.list_seen_pairs()] = True
    if available is not None:
        masked |= available[None, :] > queries.time[:, None]
    masked[np.arange(len(queries)), queries.target] = False
    return torch.from_numpy(masked)


def _rank_batch(scores: Tensor, masked: Tensor, target: Tensor, n_top: int) -> tuple[Tensor, Tensor]:
    """Return ranks (B,) float64 and top items (B, n_top) of scores (B, N), in chunks that stay in cache."""
    chunk = max(MAX_BATCH_SCORES // scores.shape[1], 1) if scores.is_cpu else len(scores)
    parts = zip(torch.split(scores, chunk), torch.split(masked, chunk), torch.split(target, chunk), strict=True)
    rank, top = zip(*(_rank_rows(*part, n_top) for part in parts), strict=True)
    return torch.cat(rank), torch.cat(top)


def _rank_in_pool(scores: Tensor, masked: Tensor, target: Rows, pool: Mask) -> Values:
    """Return the ranks (B,) of targets among the items of a pool; NaN for targets outside of it."""
    rank, inside = np.full(len(target), np.nan), np.flatnonzero(pool[target])
    if len(inside):
        rows = torch.from_numpy(inside).to(scores.device)
        others = torch.from_numpy(~pool).to(scores.device)
        own = torch.from_numpy(target[inside]).to(scores.device)
        rank[inside] = _rank_batch(scores[rows], masked[rows] | others, own, 0)[0].cpu().numpy()
    return rank


def _rank_rows(scores: Tensor, masked: Tensor, target: Tensor, n_top: int) -> tuple[Tensor, Tensor]:
    scores = torch.where(masked, -torch.inf, scores)
    own = scores.gather(1, target[:, None])  # (B, 1)
    found = torch.empty_like(scores, dtype=torch.float32)  # 1 or 0, which torch counts faster than booleans
    higher = _count_ones(torch.gt(scores, own, out=found))  # (B,)
    tied = _count_ones(torch.eq(scores, own, out=found)) - 1  # (B,) without the target itself
    ruled_out = own.squeeze(1) == -torch.inf  # masked items are no ties then
    if bool(ruled_out.any()):
        tied -= ruled_out * masked.sum(dim=1)
    best, top = scores.topk(min(n_top, scores.shape[1]), dim=1)  # (B, n_top)
    return 1 + higher + 0.5 * tied, top.masked_fill(best == -torch.inf, -1)


def _count_ones(found: Tensor) -> Tensor:
    """Return the ones (B,) float64 in rows (B, N) of ones and zeros; their sum in fp32 is exact up to 2^24."""
    return found.sum(1, dtype=None if found.shape[1] <= EXACT_IN_FP32 else torch.float64).double()


def _check_scores(scores: Tensor, queries: Queries) -> Tensor:
    if scores.ndim != 2 or len(scores) != len(queries):
        raise ScoreError(f"scores: shape {tuple(scores.shape)}. Return ({len(queries)}, items).")
    if scores.numel() and bool(torch.isnan(scores.amax())):  # the maximum is NaN if any score is
        n_bad = int(torch.isnan(scores).sum())
        raise ScoreError(f"scores: {n_bad} of {scores.numel()} are NaN. Check the model's weights and learning rate.")
    return scores
