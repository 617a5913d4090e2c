"""Re-ranking: some candidates for each query, by a stated rule, in the order that different judges give them.

A target that is not among its candidates has no rank: every metric counts it as a miss, for all judges alike.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from llmrec.backbones.likelihood import Ids, LineLikelihood
from llmrec.backbones.token_store import TokenStore
from llmrec.config.jobs.rerank import LikelihoodScore, PromptConfig
from llmrec.data.histories import Queries
from llmrec.data.splits import Split
from llmrec.errors import ConfigError
from llmrec.evaluation.metrics import Values
from llmrec.evaluation.ranking import Ranking, ScoreError, Scorer, mask_items
from llmrec.utils.arrays import Mask, Rows

_QUERIES_AT_ONCE = 256


@dataclass(frozen=True)
class CandidatePool:
    """What candidates are taken from, n for each query.

    mask_seen: nothing that the history holds. available: (N,) release times, where the catalog gives them.
    """

    n: int
    mask_seen: bool = True
    available: Rows | None = None

    @property
    def kind(self) -> str:
        return "unseen items" if self.mask_seen else "items"

    def excluded_mask(self, queries: Queries, n_items: int) -> Mask:
        """(B, N) what cannot be a candidate."""
        mask: Mask = mask_items(queries, n_items, self.mask_seen, self.available).numpy()
        return mask

    def check(self, left: Mask) -> None:
        """Raises ConfigError where fewer than n of (B, N) are left."""
        fewest = int(left.sum(axis=1).min(initial=self.n))
        if fewest < self.n:
            raise ConfigError(f"n_candidates={self.n}: only {fewest} items are left for some query; give fewer")


@dataclass(frozen=True)
class Candidates:
    """items: (Q, C) distinct catalog rows of each query. description: how they came about, for the report."""

    items: Rows
    description: str

    def target_recall(self, queries: Queries) -> float:
        """How many targets are among their candidates: no judge's recall can be above it."""
        return float((self.items == queries.target[:, None]).any(axis=1).mean())


def first_stage_candidates(name: str, scorer: Scorer, queries: Queries, pool: CandidatePool, seed: int) -> Candidates:
    """The first stage's best items of the pool; equals in random order.

    Raises:
        ConfigError: fewer items are left for some query.
    """
    rng = np.random.default_rng(seed)
    best = np.empty((len(queries), pool.n), dtype=np.int64)
    for rows, scores in _iterate_scores(scorer, queries):
        keys = np.where(pool.excluded_mask(queries.take(rows), scores.shape[1]), -np.inf, scores)
        pool.check(keys > -np.inf)
        best[rows] = np.lexsort((rng.random(keys.shape), -keys))[:, : pool.n]
    told = f"the {pool.n} {pool.kind} that {name} puts first, equals in random order"
    return Candidates(best, f"{told}; a target that is not among them counts as a miss")


def sample_candidates(split: Split, queries: Queries, pool: CandidatePool, seed: int) -> Candidates:
    """The target, and other items of the pool without replacement, each as likely as it has events in training.

    Raises:
        ConfigError: fewer items with events are left for some query.
    """
    rng = np.random.default_rng(seed)
    counts = np.bincount(split.train.item, minlength=split.n_items)
    with np.errstate(divide="ignore"):
        log_counts = np.log(counts)  # -inf: never drawn
    drawn = np.empty((len(queries), pool.n), dtype=np.int64)
    for rows in _make_batches(len(queries)):
        batch = queries.take(rows)
        keys = log_counts + rng.gumbel(size=(len(batch), split.n_items))  # the best of these are such a draw
        keys[pool.excluded_mask(batch, split.n_items)] = -np.inf
        keys[np.arange(len(batch)), batch.target] = np.inf
        pool.check(keys > -np.inf)
        drawn[rows] = np.argsort(-keys, axis=1)[:, : pool.n]
    told = f"{pool.n} candidates, the target itself and {pool.n - 1} {pool.kind} drawn by their popularity in training"
    return Candidates(drawn, f"{told} (easier than the whole catalog: rows compare with each other only)")


def rank_candidates(candidates: Candidates, scores: Values, queries: Queries, n_top: int) -> Ranking:
    """Ranks of the targets by `scores` (Q, C), ties at their mean rank; infinite where the target is not there.

    Raises:
        ScoreError: a score is NaN.
    """
    if np.isnan(scores).any():
        raise ScoreError(f"{int(np.isnan(scores).sum())} of {scores.size} scores are NaN; check the model's weights")
    is_target = candidates.items == queries.target[:, None]  # (Q, C)
    own = np.where(is_target, scores, -np.inf).max(axis=1, keepdims=True)
    rank = 1 + (scores > own).sum(axis=1) + 0.5 * ((scores == own) & ~is_target).sum(axis=1)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :n_top]
    return Ranking(np.where(is_target.any(axis=1), rank, np.inf), np.take_along_axis(candidates.items, order, axis=1))


def gather_scores(scorer: Scorer, queries: Queries, candidates: Candidates) -> Values:
    """(Q, C) what a scorer of the whole catalog gives the candidates."""
    found = np.empty(candidates.items.shape)
    for rows, scores in _iterate_scores(scorer, queries):
        found[rows] = np.take_along_axis(scores, candidates.items[rows], axis=1)
    return found


class LikelihoodReranker:
    """How likely a decoder finds each candidate's line as the next one of a list of the user's newest items.

    lines: the catalog's, of `LineLikelihood.tokenize_lines`.
    """

    def __init__(self, likelihood: LineLikelihood, lines: TokenStore, prompt: PromptConfig) -> None:
        self.likelihood, self.lines, self.n_history = likelihood, lines, prompt.history
        self.header = likelihood.tokenize(f"{prompt.header.strip()}\n", special=True)
        self.bullet = likelihood.tokenize("-")

    def build_prompt(self, items: Rows) -> Ids:
        """(P,) tokens of the header, a line for each of `items`, oldest first, and the beginning of the next line."""
        bounds = zip(self.lines.offset[items], self.lines.offset[items + 1], strict=True)
        shown = [part for start, end in bounds for part in (self.bullet, self.lines.flat[start:end])]
        return np.concatenate([self.header, *shown, self.bullet]).astype(np.int64)

    def score(
        self, queries: Queries, candidates: Rows, kinds: tuple[LikelihoodScore, ...], describe: str | None = None
    ) -> dict[LikelihoodScore, Values]:
        """By kind, (Q, C) of `candidates` (Q, C); `describe` names a progress bar."""
        position, mask = queries.last_positions(self.n_history)
        total = np.empty(candidates.shape)
        for row in tqdm(range(len(queries)), desc=describe, unit="query", disable=describe is None or None):
            shown = queries.histories.item[position[row][mask[row]]]
            total[row] = self.likelihood.score_lines(self.build_prompt(shown), self.lines.take(candidates[row]))
        found: dict[LikelihoodScore, Values] = {}
        for kind in kinds:
            if kind == "sum":
                found[kind] = total
            elif kind == "mean":
                found[kind] = total / self.lines.lengths[candidates]
            else:
                found[kind] = total - self._score_without_history(candidates)
        return found

    def _score_without_history(self, candidates: Rows) -> Values:
        """(Q, C) log-likelihoods after the header alone; each distinct item is read once."""
        distinct, place = np.unique(candidates, return_inverse=True)
        alone = self.likelihood.score_lines(self.build_prompt(distinct[:0]), self.lines.take(distinct))
        return alone[place.reshape(candidates.shape)]


def draw_random_scores(shape: tuple[int, ...], seed: int) -> Values:
    """The control: an order that knows nothing."""
    return np.random.default_rng(seed).random(shape)


def _iterate_scores(scorer: Scorer, queries: Queries) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    """Rows of the queries, and their scores (B, N)."""
    for rows in _make_batches(len(queries)):
        with torch.inference_mode():
            yield rows, scorer.score(queries.take(rows)).cpu().numpy()


def _make_batches(n: int) -> list[slice]:
    return [slice(start, min(start + _QUERIES_AT_ONCE, n)) for start in range(0, n, _QUERIES_AT_ONCE)]
