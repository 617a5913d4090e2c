"""The drift rows of a report: the head refreshed, static, term by term, and controlled.

All of them are fitted on the same validation queries with the same care; the model below is the one that the validation
window can judge while they are fitted, and the final one for the test.
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
from llmrec.evaluation.ranking import Scorer
from llmrec.training.task import TrainingTask


@dataclass(frozen=True)
class DriftRow:
    """A row and its scorer. settings: what was learned."""

    row: ModelRow
    scorer: Scorer
    settings: dict[str, Any]


class CachedScorer:
    """A scorer that keeps its answers, up to MAX_CACHED_SCORES numbers: a dozen heads ask the same questions."""

    def __init__(self, scorer: Scorer) -> None:
        self.scorer, self.kept, self.room = scorer, dict[bytes, Tensor](), MAX_CACHED_SCORES

    def score(self, queries: Queries) -> Tensor:
        """(B, N)"""
        asked = b"".join(column.tobytes() for column in (queries.user, queries.time, queries.end))
        if asked not in self.kept:
            answer = self.scorer.score(queries)
            if answer.numel() > self.room:
                return answer
            self.kept[asked], self.room = answer, self.room - answer.numel()
        return self.kept[asked].clone()


@dataclass(frozen=True)
class DriftTask:
    """What every seed's head is fitted on. vectors: (N, D) unit vectors of texts, or None for ids alone."""

    task: TrainingTask
    stream: ReplayStream
    vectors: Tensor | None
    valid: Queries

    @classmethod
    def from_task(cls, config: DriftConfig, task: TrainingTask, text: Tensor | None) -> DriftTask:
        """text: (N, D) of the backbone."""
        vectors, split = None if text is None else center_and_normalize(text), task.split
        stream = ReplayStream.from_split(config, split, task.ties, vectors)
        if split.name == "by_time":
            stream = replace(stream, trained_until=split.valid_start)
        return cls(task, stream, vectors, make_queries(task.split, VALID, task.ties))

    def fit(self, validated: Scorer, seed: int) -> tuple[FittedHead, DriftValidation]:
        """The head with all its terms, and what it was fitted on. validated: the model on the training part alone."""
        judged = DriftValidation.from_stream(validated, self.stream, self.valid, self.task.accelerator)
        return fit_drift(judged, self._with_chain(seed), self.task.mask_seen), judged

    def _with_chain(self, seed: int) -> ReplayStream:
        """The stream with a chain fitted to the training part, where that term is on."""
        if chain.NAME not in self.stream.config.terms or self.vectors is None:
            return self.stream
        fitted = fit_chain(self.task.split, self.task.ties, self.vectors, self.stream.config.n_states, seed)
        return replace(self.stream, chain=ChainTables.from_chain(fitted, self.vectors))


def iterate_drift_rows(
    task: DriftTask, judged: DriftValidation, full: FittedHead, base: Scorer, trained_until: int | None
) -> Iterator[DriftRow]:
    """judged: what heads are fitted on, of the model on the training part alone. full: the head with all its terms.

    base: the model that heads sit on in the test; trained_until: seconds, where its training data ends.
    """
    config, mask_seen, base = full.stream.config, task.task.mask_seen, CachedScorer(base)

    def make_test_stream(fit: FittedHead) -> ReplayStream:
        return replace(fit.stream, trained_until=trained_until)

    for days in (*config.refresh_days, NO_REFRESH) if task.task.split.name == "by_time" else (REFRESH_DAILY,):
        row = DRIFT_STATIC if days == NO_REFRESH else ModelRow.refreshed(days)
        yield DriftRow(row, DriftScorer(full.head, base, make_test_stream(full), days), describe_fit(full))
    if not config.ablations:
        return
    for term in SWITCHES:
        if term in config.terms and BY_NAME[term].role == "part":
            row = ModelRow("drift", f"only_{term}", REFRESH_DAILY)
            yield DriftRow(row, TermScorer(term, full.head, make_test_stream(full)), {})
    for strategy, changed in _list_variants(config, full.stream.transition_half_life_days).items():
        fit = fit_drift(judged, replace(full.stream, config=changed), mask_seen)
        row = ModelRow("drift", strategy, REFRESH_DAILY)
        yield DriftRow(row, DriftScorer(fit.head, base, make_test_stream(fit)), describe_fit(fit))


def describe_fit(fit: FittedHead) -> dict[str, Any]:
    """What a fit found, for a report."""
    return {"transition_half_life_days": fit.stream.transition_half_life_days} | fit.head.describe()


def _list_variants(config: DriftConfig, half_life_days: float) -> dict[str, DriftConfig]:
    """Return heads with other terms, to be fitted each, by strategy; the half-life of transitions stays."""
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
