"""Rows of a report for the drift head: refreshed, static, single terms, ablations and a control.

All heads are fitted on the same validation queries in the same way. While they are fitted, the model below is the one
trained without the validation window; in the test it is the final one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from llmrec.config.drift import ANSWERING, CONTROL, NO_DECAY_DAYS, DriftConfig
from llmrec.data.histories import Queries, make_queries
from llmrec.data.splits import VALID
from llmrec.drift.fit_chain import fit_chain
from llmrec.drift.fit_head import MAX_CACHED_SCORES, DriftValidation, FittedHead, fit_drift
from llmrec.drift.scorers import DriftScorer, TermScorer
from llmrec.drift.stream import NO_REFRESH, REFRESH_DAILY, ReplayStream
from llmrec.drift.terms import BY_NAME, SWITCHES, chain
from llmrec.drift.terms.latent_chain import ChainTables
from llmrec.drift.text_neighbors import center_and_normalize
from llmrec.evaluation.model_rows import DRIFT_STATIC, ModelRow
from llmrec.evaluation.model_scorer import ScoreCache
from llmrec.evaluation.ranking import Scorer
from llmrec.training.task import TrainingTask


@dataclass(frozen=True)
class DriftRow:
    """One row of a report and its scorer."""

    row: ModelRow
    """Row of the report."""
    scorer: Scorer
    """Scorer of the queries."""
    settings: dict[str, Any]
    """Fitted values, for the report."""


class CachedScorer:
    """Scorer that caches its answers, up to MAX_CACHED_SCORES numbers, for heads with the same queries."""

    def __init__(self, scorer: Scorer) -> None:
        self.scorer, self.cache = scorer, ScoreCache(MAX_CACHED_SCORES)

    def score(self, queries: Queries) -> Tensor:
        """Score the catalog for each query.

        Args:
            queries: The B queries.

        Returns:
            Scores, (B, N).
        """
        return self.cache.get(queries, lambda: self.scorer.score(queries)).clone()


@dataclass(frozen=True)
class DriftTask:
    """Data on which the heads of all seeds are fitted."""

    task: TrainingTask
    """Training task of the model below."""
    stream: ReplayStream
    """Replay of the log."""
    vectors: Tensor | None
    """Unit text vectors, (N, D); None for ids alone."""
    valid: Queries
    """Validation queries."""

    @classmethod
    def from_task(cls, config: DriftConfig, task: TrainingTask, text: Tensor | None) -> DriftTask:
        """Make the data for drift heads from a training task.

        Args:
            config: Settings of drift.
            task: Training task of the model below.
            text: Text vectors of the backbone, (N, D); None for ids alone.

        Returns:
            The data.
        """
        vectors, split = None if text is None else center_and_normalize(text), task.split
        stream = ReplayStream.from_split(config, split, task.ties, vectors)
        if split.name == "by_time":
            stream = replace(stream, trained_until=split.valid_start)
        return cls(task, stream, vectors, make_queries(task.split, VALID, ties=task.ties))

    def fit(self, validated: Scorer, seed: int) -> tuple[FittedHead, DriftValidation]:
        """Fit the head with all its terms.

        Args:
            validated: Model trained on the training part alone.
            seed: Seed of the latent interests.

        Returns:
            The fitted head, and the validation data it was fitted on.
        """
        judged = DriftValidation.from_stream(validated, self.stream, self.valid, accelerator=self.task.accelerator)
        return fit_drift(judged, self._with_chain(seed), mask_seen=self.task.mask_seen), judged

    def _with_chain(self, seed: int) -> ReplayStream:
        """Return the stream with a chain fitted to the training part, if that term is on."""
        if chain.NAME not in self.stream.config.terms or self.vectors is None:
            return self.stream
        fitted = fit_chain(self.task.split, self.task.ties, self.vectors, self.stream.config.n_states, seed=seed)
        return replace(self.stream, chain=ChainTables.from_chain(fitted, self.vectors))


def iterate_drift_rows(
    task: DriftTask, judged: DriftValidation, full: FittedHead, base: Scorer, *, trained_until: int | None
) -> Iterator[DriftRow]:
    """Fit the heads of a report and yield their rows one by one.

    Args:
        task: Data for the heads.
        judged: Validation data, scored by the model trained on the training part alone.
        full: The fitted head with all its terms.
        base: Model below the heads in the test.
        trained_until: Time in seconds at which the training data of `base` ends; None unless the split is by_time.

    Yields:
        The rows, refreshed ones first.
    """
    config, mask_seen, base = full.stream.config, task.task.mask_seen, CachedScorer(base)

    def make_test_stream(fit: FittedHead) -> ReplayStream:
        return replace(fit.stream, trained_until=trained_until)

    for days in (*config.refresh_days, NO_REFRESH) if task.task.split.name == "by_time" else (REFRESH_DAILY,):
        row = DRIFT_STATIC if days == NO_REFRESH else ModelRow.refreshed(days)
        yield DriftRow(row, DriftScorer(full.head, base, make_test_stream(full), refresh_days=days), describe_fit(full))
    if not config.ablations:
        return
    for term in SWITCHES:
        if term in config.terms and BY_NAME[term].role == "part":
            row = ModelRow("drift", f"only_{term}", REFRESH_DAILY)
            yield DriftRow(row, TermScorer(term, full.head, make_test_stream(full)), {})
    for strategy, changed in _list_variants(config, full.stream.transition_half_life_days).items():
        fit = fit_drift(judged, replace(full.stream, config=changed), mask_seen=mask_seen)
        row = ModelRow("drift", strategy, REFRESH_DAILY)
        yield DriftRow(row, DriftScorer(fit.head, base, make_test_stream(fit)), describe_fit(fit))


def describe_fit(fit: FittedHead) -> dict[str, Any]:
    """Return the fitted values of a head for a report.

    Args:
        fit: The fitted head.

    Returns:
        Values by name.
    """
    return {"transition_half_life_days": fit.stream.transition_half_life_days} | fit.head.describe()


def _list_variants(config: DriftConfig, half_life_days: float) -> dict[str, DriftConfig]:
    """Return settings with other terms by strategy; the half-life of transitions is kept."""
    kept = replace(config, transition_half_lives_days=(half_life_days,))
    variants: dict[str, DriftConfig] = {}
    for term in config.terms:
        rest = tuple(other for other in config.terms if other != term)
        if ANSWERING & set(rest):
            variants[f"without_{term}"] = replace(kept, terms=rest)
    for term in config.terms:
        if BY_NAME[term].role == "logit" and len(config.terms) > 1:
            variants[f"only_{term}"] = replace(kept, terms=(term,))
    if set(CONTROL) <= set(config.terms):
        variants["control"] = replace(kept, terms=CONTROL, transition_half_lives_days=(NO_DECAY_DAYS,))
    return variants
