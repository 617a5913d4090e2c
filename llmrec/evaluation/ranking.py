"""The rank of each query's target among all items of the catalog.

Many published ranks are too good because every tie wins, or because seen items stay in. Here

    rank = 1 + #(items that score higher) + 0.5 * #(other items that score the same)

which is the expected rank if ties are broken at random. Items of the history are masked (unless the task is
repeat consumption); the target itself never is. Memory is bounded by batch_size * N scores, `SCORES` of them where
`query_batch_size` says how many queries.
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

MAX_BATCH_SCORES = 1 << 18  # scores that are ranked together: 1 MiB
BATCH, SCORES = 256, 1 << 28  # queries that are scored together; fewer where their scores would take more than 1 GiB


class ScoreError(LlmrecError, ValueError):
    """Scores that cannot be ranked: not a number, or not one for each query and item."""


class Scorer(Protocol):
    """Anything that scores the whole catalog for each query, from what was known before the query's time."""

    def score(self, queries: Queries) -> Tensor:
        """(B, N) float32; higher is better. -inf: never recommend."""
        ...


@dataclass(frozen=True, slots=True)
class Ranking:
    """rank: (Q,) float64, 1-based rank of each target; top: (Q, n_top) item rows, best first, -1 where none is left."""

    rank: Values
    top: Rows


def rank_queries(
    scorer: Scorer,
    queries: Queries,
    n_top: int = 20,
    mask_seen: bool = True,
    batch_size: int = BATCH,
    available: Rows | None = None,
    progress: str | None = None,
) -> Ranking:
    """Rank the target of every query against the whole catalog.

    available: (N,) release times in seconds; an item is masked for queries before its release. Only for catalogs
        that give release dates: "first seen in the log" would tell the ranking which items have a future.
    progress: the name on the progress bar; none without a name or without a terminal.

    Raises:
        ScoreError: a score is NaN, or the scores are not (queries, items).
    """
    ranks: list[Values] = []
    tops: list[Rows] = []
    starts = tqdm(range(0, len(queries), batch_size), desc=progress, unit="batch", disable=progress is None or None)
    with torch.inference_mode():
        for start in starts:
            batch = queries.take(slice(start, start + batch_size))
            scores = _check_scores(scorer.score(batch), batch)
            masked = mask_items(batch, scores.shape[1], mask_seen, available).to(scores.device)
            rank, top = _rank_batch(scores, masked, torch.from_numpy(batch.target).to(scores.device), n_top)
            ranks.append(rank.cpu().numpy())
            tops.append(top.cpu().numpy())
    if not ranks:
        return Ranking(np.zeros(0), np.zeros((0, n_top), dtype=np.int64))
    return Ranking(np.concatenate(ranks), np.concatenate(tops))


def query_batch_size(n_items: int) -> int:
    """How many queries to score together: 256 up to a million items, 26 at ten million."""
    return max(min(BATCH, SCORES // max(n_items, 1)), 1)


def mean_ndcg(scorer: Scorer, queries: Queries, k: int = 10, mask_seen: bool = True, batch_size: int = BATCH) -> float:
    """Mean NDCG@k over the queries: what tuning and early stopping look at."""
    ranking = rank_queries(scorer, queries, n_top=1, mask_seen=mask_seen, batch_size=batch_size)
    return float(ndcg_at(ranking.rank, k).mean())


def sample_queries(queries: Queries, most: int, seed: int = 0) -> Queries:
    """At most `most` of the queries, drawn without replacement, still in time order."""
    if len(queries) <= most:
        return queries
    chosen = np.random.default_rng(seed).choice(len(queries), most, replace=False)
    return queries.take(np.sort(chosen))


def mask_items(queries: Queries, n_items: int, mask_seen: bool, available: Rows | None) -> Tensor:
    """(B, N) True where an item cannot be recommended."""
    masked: Mask = np.zeros((len(queries), n_items), dtype=np.bool_)
    if mask_seen:
        masked[queries.list_seen_pairs()] = True
    if available is not None:
        masked |= available[None, :] > queries.time[:, None]
    masked[np.arange(len(queries)), queries.target] = False
    return torch.from_numpy(masked)


def _rank_batch(scores: Tensor, masked: Tensor, target: Tensor, n_top: int) -> tuple[Tensor, Tensor]:
    """Ranks (B,) float64 and top items (B, n_top) of scores (B, N), some rows at a time, so that they stay in cache."""
    chunk = max(MAX_BATCH_SCORES // scores.shape[1], 1) if scores.is_cpu else len(scores)
    parts = zip(torch.split(scores, chunk), torch.split(masked, chunk), torch.split(target, chunk), strict=True)
    rank, top = zip(*(_rank_rows(*part, n_top) for part in parts), strict=True)
    return torch.cat(rank), torch.cat(top)


def _rank_rows(scores: Tensor, masked: Tensor, target: Tensor, n_top: int) -> tuple[Tensor, Tensor]:
    scores = scores.masked_fill(masked, -torch.inf)
    own = scores.gather(1, target[:, None])  # (B, 1)
    # Summed in int32, which torch does several times faster than in its default.
    higher = (scores > own).sum(dim=1, dtype=torch.int32)  # (B,)
    tied = (scores == own).sum(dim=1, dtype=torch.int32) - 1  # (B,) without the target itself
    ruled_out = own.squeeze(1) == -torch.inf  # then masked items are no ties
    if bool(ruled_out.any()):
        tied -= ruled_out * masked.sum(dim=1, dtype=torch.int32)
    best, top = scores.topk(min(n_top, scores.shape[1]), dim=1)  # (B, n_top)
    return 1 + higher.double() + 0.5 * tied.double(), top.masked_fill(best == -torch.inf, -1)


def _check_scores(scores: Tensor, queries: Queries) -> Tensor:
    if scores.ndim != 2 or len(scores) != len(queries):
        raise ScoreError(f"scores have shape {tuple(scores.shape)}; expected ({len(queries)}, items)")
    if scores.numel() and bool(torch.isnan(scores.amax())):  # which is NaN where any is
        n_bad = int(torch.isnan(scores).sum())
        raise ScoreError(f"{n_bad} of {scores.numel()} scores are NaN; check the model's weights and learning rate")
    return scores
