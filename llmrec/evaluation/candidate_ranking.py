"""Ranking of a few candidates for each query by different scorers."""

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

# A target that is not among its candidates has no rank: every metric counts it as a miss, for all scorers.
_QUERIES_AT_ONCE = 256


@dataclass(frozen=True)
class CandidatePool:
    """Pool from which n candidates are selected for each query."""

    n: int
    """Number of candidates."""
    mask_seen: bool = True
    """True to leave out the items of the history."""
    available: Rows | None = None
    """Release times in seconds, (N,); None if the catalog has none."""

    @property
    def kind(self) -> str:
        """Description of the items in the pool."""
        return "unseen items" if self.mask_seen else "items"

    def excluded_mask(self, queries: Queries, n_items: int) -> Mask:
        """Return the items that cannot be candidates.

        Args:
            queries: Queries, B of them.
            n_items: Number of items of the catalog, N.

        Returns:
            True for excluded items, (B, N).
        """
        mask: Mask = mask_items(queries, n_items, mask_seen=self.mask_seen, available=self.available).numpy()
        return mask

    def check(self, left: Mask) -> None:
        """Check that each query has enough items.

        Args:
            left: True for eligible items, (B, N).

        Raises:
            ConfigError: If a query has fewer than n.
        """
        smallest = int(left.sum(axis=1).min(initial=self.n))
        if smallest < self.n:
            raise ConfigError(
                f"n_candidates={self.n}: some queries have only {smallest} eligible items. "
                f"Set n_candidates to at most {smallest}."
            )


@dataclass(frozen=True)
class Candidates:
    """Candidates of each query."""

    items: Rows
    """Distinct catalog rows, (Q, C)."""
    description: str
    """Rule that selected them, for the report."""

    def target_recall(self, queries: Queries) -> float:
        """Return the share of targets that are among their candidates, an upper bound of every recall.

        Args:
            queries: Queries, Q of them.

        Returns:
            Share, 0 to 1.
        """
        return float((self.items == queries.target[:, None]).any(axis=1).mean())


def first_stage_candidates(
    name: str, scorer: Scorer, queries: Queries, pool: CandidatePool, *, seed: int
) -> Candidates:
    """Select the best items of a first stage; equal scores are in random order.

    Args:
        name: Name of the first stage, for the report.
        scorer: First stage.
        queries: Queries, Q of them.
        pool: Pool of items.
        seed: Seed of the order of equal scores.

    Returns:
        The candidates.

    Raises:
        ConfigError: If a query has too few items.
    """
    rng = np.random.default_rng(seed)
    best = np.empty((len(queries), pool.n), dtype=np.int64)
    for rows, scores in _iterate_scores(scorer, queries):
        keys = np.where(pool.excluded_mask(queries.take(rows), scores.shape[1]), -np.inf, scores)
        pool.check(keys > -np.inf)
        best[rows] = np.lexsort((rng.random(keys.shape), -keys))[:, : pool.n]
    description = f"the {pool.n} {pool.kind} that {name} ranks first, equals in random order"
    return Candidates(best, f"{description}; a target that is not among them counts as a miss")


def sample_candidates(split: Split, queries: Queries, pool: CandidatePool, seed: int) -> Candidates:
    """Select the target and other items, drawn without replacement by their number of training events.

    Args:
        split: Split of the log.
        queries: Queries, Q of them.
        pool: Pool of items.
        seed: Seed of the draw.

    Returns:
        The candidates.

    Raises:
        ConfigError: If a query has too few items with events.
    """
    rng = np.random.default_rng(seed)
    counts = np.bincount(split.train.item, minlength=split.n_items)
    with np.errstate(divide="ignore"):
        log_counts = np.log(counts)  # -inf is never drawn
    drawn = np.empty((len(queries), pool.n), dtype=np.int64)
    for rows in _make_batches(len(queries)):
        batch = queries.take(rows)
        keys = log_counts + rng.gumbel(size=(len(batch), split.n_items))  # the largest keys are such a draw
        keys[pool.excluded_mask(batch, split.n_items)] = -np.inf
        keys[np.arange(len(batch)), batch.target] = np.inf
        pool.check(keys > -np.inf)
        drawn[rows] = np.argsort(-keys, axis=1)[:, : pool.n]
    description = f"{pool.n} candidates, the target itself and {pool.n - 1} {pool.kind} drawn by their popularity"
    easier = "easier than the whole catalog: rows compare with each other only"
    return Candidates(drawn, f"{description} in training ({easier})")


def rank_candidates(candidates: Candidates, scores: Values, queries: Queries, n_top: int) -> Ranking:
    """Rank the targets among their candidates, ties at their mean rank.

    Args:
        candidates: Candidates, (Q, C).
        scores: Their scores, (Q, C).
        queries: Queries, Q of them.
        n_top: Number of best items to return.

    Returns:
        Ranks, infinite where the target is not a candidate, and the best items.

    Raises:
        ScoreError: If a score is NaN.
    """
    if np.isnan(scores).any():
        raise ScoreError(f"scores: {int(np.isnan(scores).sum())} of {scores.size} are NaN. Check the model's weights.")
    is_target = candidates.items == queries.target[:, None]  # (Q, C)
    own = np.where(is_target, scores, -np.inf).max(axis=1, keepdims=True)
    rank = 1 + (scores > own).sum(axis=1) + 0.5 * ((scores == own) & ~is_target).sum(axis=1)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :n_top]
    return Ranking(np.where(is_target.any(axis=1), rank, np.inf), np.take_along_axis(candidates.items, order, axis=1))


def gather_scores(scorer: Scorer, queries: Queries, candidates: Candidates) -> Values:
    """Compute the scores of candidates with a scorer of the whole catalog.

    Args:
        scorer: Scorer of the catalog.
        queries: Queries, Q of them.
        candidates: Candidates, (Q, C).

    Returns:
        Scores, (Q, C).
    """
    found = np.empty(candidates.items.shape)
    for rows, scores in _iterate_scores(scorer, queries):
        found[rows] = np.take_along_axis(scores, candidates.items[rows], axis=1)
    return found


class LikelihoodReranker:
    """Scorer of candidates by the likelihood of their line after a list of the user's newest items.

    Args:
        likelihood: Decoder that scores lines.
        lines: Tokens of the catalog's lines, by `LineLikelihood.tokenize_lines`.
        prompt: Header and number of items of the prompt.
    """

    def __init__(self, likelihood: LineLikelihood, lines: TokenStore, prompt: PromptConfig) -> None:
        self.likelihood, self.lines, self.n_history = likelihood, lines, prompt.history
        self.header = likelihood.tokenize(f"{prompt.header.strip()}\n", special=True)
        self.bullet = likelihood.tokenize("-")

    def build_prompt(self, items: Rows) -> Ids:
        """Build the prompt: the header, a line for each item and the start of the next line.

        Args:
            items: Catalog rows, oldest first.

        Returns:
            Token ids, (P,).
        """
        bounds = zip(self.lines.offset[items], self.lines.offset[items + 1], strict=True)
        shown = [part for start, end in bounds for part in (self.bullet, self.lines.flat[start:end])]
        return np.concatenate([self.header, *shown, self.bullet]).astype(np.int64)

    def score(
        self, queries: Queries, candidates: Rows, kinds: tuple[LikelihoodScore, ...], *, describe: str | None = None
    ) -> dict[LikelihoodScore, Values]:
        """Score candidates by the likelihood of their lines.

        Args:
            queries: Queries, Q of them.
            candidates: Catalog rows, (Q, C).
            kinds: Kinds of scores to compute.
            describe: Title of a progress bar; None shows none.

        Returns:
            Scores, (Q, C), by kind.
        """
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
        """Compute log-likelihoods (Q, C) after the header only; each distinct item is scored once."""
        distinct, place = np.unique(candidates, return_inverse=True)
        alone = self.likelihood.score_lines(self.build_prompt(distinct[:0]), self.lines.take(distinct))
        return alone[place.reshape(candidates.shape)]


def draw_random_scores(shape: tuple[int, ...], seed: int) -> Values:
    """Draw random scores, as a control.

    Args:
        shape: Shape of the scores.
        seed: Seed of the draw.

    Returns:
        Scores, uniform from 0 to 1.
    """
    return np.random.default_rng(seed).random(shape)


def _iterate_scores(scorer: Scorer, queries: Queries) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    """Yield rows of the queries and their scores (B, N)."""
    for rows in _make_batches(len(queries)):
        with torch.inference_mode():
            yield rows, scorer.score(queries.take(rows)).cpu().numpy()


def _make_batches(n: int) -> list[slice]:
    return [slice(start, min(start + _QUERIES_AT_ONCE, n)) for start in range(0, n, _QUERIES_AT_ONCE)]
