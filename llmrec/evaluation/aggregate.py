"""From rankings to numbers: every model, metric and slice with its interval, and the main model against each other.

All models of a split answer the same queries, and all means come from the same bootstrap draws of users, so that
every difference is a paired one. Of several seeds, a query's metric is the mean over the seeds; how far the seeds
lie apart is told beside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from llmrec.config.evaluation import EvaluationConfig
from llmrec.data.histories import Queries, make_queries
from llmrec.data.interactions import Ties
from llmrec.data.splits import TEST, Split
from llmrec.errors import ConfigError
from llmrec.evaluation.intervals import bootstrap_means, difference_from_means, interval_from_means
from llmrec.evaluation.metrics import Values, compute_metrics, coverage
from llmrec.evaluation.ranking import Ranking, sample_queries
from llmrec.evaluation.results import Comparison, MetricRow, Protocol, Report, SplitReport
from llmrec.utils.arrays import Mask, Rows
from llmrec.utils.units import SECONDS_PER_DAY


def make_test_queries(split: Split, ties: Ties, config: EvaluationConfig, with_history: bool = False) -> Queries:
    """What the models of a split are asked: the test's targets, if so configured of its first days, or a sample.

    with_history: only targets before which their user has an event.
    """
    queries = make_queries(split, TEST, ties)
    if config.first_days is not None and split.name == "by_time":
        queries = queries.take(queries.time < split.test_start + config.first_days * SECONDS_PER_DAY)
    if with_history:
        queries = queries.take(queries.end > queries.start)
    return sample_queries(queries, config.max_queries)


def evaluate_split(
    split: str,
    queries: Queries,
    slices: Mapping[str, Mask],
    rankings: Mapping[str, Sequence[Ranking]],
    protocol: Protocol,
    config: EvaluationConfig,
    main: str,
    settings: Mapping[str, Any] | None = None,
    also: Sequence[str] = (),
) -> SplitReport:
    """Numbers of all models on one split's queries.

    slices: of `make_slices`, each a mask (Q,). rankings: by model, one for each seed; `main` is compared with every
    other, in all metrics overall and in the primary one in each slice; so are those of `also`. settings: by
    model, how it was chosen (`TuningResult.to_record()`).

    Raises:
        ConfigError: `main` was not ranked, or a ranking is of other queries.
    """
    _check(queries, rankings, main)
    names, values = _compute_values(rankings, config.cutoffs)  # M names of metrics; model -> (Q, M)
    rows: list[MetricRow] = []
    comparisons: list[Comparison] = []
    subjects = list(dict.fromkeys([main, *also]))
    for slice_name, mask in slices.items():
        part = _Slice.from_mask(split, slice_name, queries.user[mask], values, mask, config.bootstrap_samples)
        compared = names if slice_name == "overall" else [get_primary_metric(config)]
        for model in values:
            rows += part.iterate_rows(model, names)
            for subject in subjects:
                if model != subject:
                    comparisons += part.iterate_comparisons(subject, model, names, compared)
    rows += _build_coverage_rows(split, rankings, protocol.n_items, config.cutoffs)
    spread = tuple(_seed_spread(split, rankings, names, config.cutoffs))
    return SplitReport(split, protocol, tuple(rows), tuple(comparisons), spread, dict(settings or {}))


def get_primary_metric(config: EvaluationConfig) -> str:
    """What models are sorted and compared by: NDCG at the first cut-off."""
    return f"ndcg@{config.cutoffs[0]}"


def make_report(
    evaluated: Sequence[SplitReport], config: EvaluationConfig, main: str, metadata: Mapping[str, Any]
) -> Report:
    """One report of all splits. metadata: free, of JSON types (commit, data, seeds, seconds ...)."""
    run = dict(metadata) | {
        "main": main,
        "primary": get_primary_metric(config),
        "bootstrap_samples": config.bootstrap_samples,
        "protocol": {part.split: asdict(part.protocol) for part in evaluated},
        "settings": {part.split: part.settings for part in evaluated},
        "seeds": [spread for part in evaluated for spread in part.seeds],
        "comparisons": [asdict(comparison) for part in evaluated for comparison in part.comparisons],
    }
    return Report(tuple(row for part in evaluated for row in part.rows), run)


@dataclass(frozen=True)
class _Slice:
    """The n queries of a slice: for each model its values (n, M) and their bootstrap means (samples, M)."""

    split: str
    slice: str
    user: Rows
    values: dict[str, Values]
    means: dict[str, Values]

    @classmethod
    def from_mask(
        cls, split: str, name: str, user: Rows, of_all: Mapping[str, Values], mask: Mask, samples: int
    ) -> _Slice:
        values = {model: of_model[mask] for model, of_model in of_all.items()}
        drawn = bootstrap_means(np.concatenate(list(values.values()), axis=1), user, samples)  # the same for all models
        means = dict(zip(values, np.split(drawn, len(values), axis=1), strict=True))
        return cls(split, name, user, values, means)

    def iterate_rows(self, model: str, names: Sequence[str]) -> Iterator[MetricRow]:
        for m, metric in enumerate(names):
            value, low, high = interval_from_means(self.values[model][:, m], self.means[model][:, m], self.user)
            yield MetricRow(
                model, self.split, self.slice, metric, value, _nan_to_none(low), _nan_to_none(high), len(self.user)
            )

    def iterate_comparisons(
        self, main: str, against: str, names: Sequence[str], compared: Sequence[str]
    ) -> Iterator[Comparison]:
        where, n = (main, against, self.split, self.slice), len(self.user)
        for m, metric in enumerate(names):
            if metric in compared:
                gain = self.values[main][:, m] - self.values[against][:, m]
                drawn = self.means[main][:, m] - self.means[against][:, m]
                difference, low, high, p = difference_from_means(gain, drawn, self.user)
                yield Comparison(*where, metric, difference, _nan_to_none(low), _nan_to_none(high), _nan_to_none(p), n)


def _nan_to_none(number: float) -> float | None:
    """NaN (there is no interval) as None, which JSON has."""
    return None if np.isnan(number) else number


def _check(queries: Queries, rankings: Mapping[str, Sequence[Ranking]], main: str) -> None:
    if main not in rankings:
        raise ConfigError(f"main model {main!r} is not among the ranked ones {sorted(rankings)}")
    for model, seeds in rankings.items():
        lengths = {len(ranking.rank) for ranking in seeds}
        if lengths != {len(queries)}:
            raise ConfigError(f"{model}: rankings of {sorted(lengths)} queries; expected {len(queries)} in each seed")


def _compute_values(
    rankings: Mapping[str, Sequence[Ranking]], cutoffs: tuple[int, ...]
) -> tuple[list[str], dict[str, Values]]:
    """Names of the M metrics, and for each model its values (Q, M), averaged over seeds."""
    values: dict[str, Values] = {}
    names: list[str] = []
    for model, seeds in rankings.items():
        of_seeds = [compute_metrics(ranking.rank, cutoffs) for ranking in seeds]
        names = list(of_seeds[0])
        values[model] = np.mean([np.column_stack(list(metrics.values())) for metrics in of_seeds], axis=0)
    return names, values


def _build_coverage_rows(
    split: str, rankings: Mapping[str, Sequence[Ranking]], n_items: int, cutoffs: tuple[int, ...]
) -> list[MetricRow]:
    rows: list[MetricRow] = []
    for model, seeds in rankings.items():
        for k in cutoffs:
            covered = float(np.mean([coverage(ranking.top[:, :k], n_items) for ranking in seeds]))
            rows.append(MetricRow(model, split, "overall", f"coverage@{k}", covered, None, None, len(seeds[0].rank)))
    return rows


def _seed_spread(
    split: str, rankings: Mapping[str, Sequence[Ranking]], names: Sequence[str], cutoffs: tuple[int, ...]
) -> list[dict[str, Any]]:
    """Of models with several seeds: each seed's overall mean, and their standard deviation."""
    spread: list[dict[str, Any]] = []
    for model, seeds in rankings.items():
        if len(seeds) < 2:
            continue
        of_seeds = [compute_metrics(ranking.rank, cutoffs) for ranking in seeds]
        for metric in names:
            means = [float(metrics[metric].mean()) for metrics in of_seeds]
            std = float(np.std(means, ddof=1))
            spread.append({"model": model, "split": split, "metric": metric, "values": means, "std": std})
    return spread
