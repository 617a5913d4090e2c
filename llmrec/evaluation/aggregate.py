"""Aggregate rankings into metrics with intervals, and into paired comparisons with the main model.

All models of a split answer the same queries, and all means come from the same bootstrap draws of users, so that
every difference is a paired one. Of several seeds, a query's metric is the mean over the seeds; their spread is
reported next to it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from llmrec.config.evaluation import EvaluationConfig
from llmrec.data.histories import Queries, make_queries
from llmrec.data.interactions import Ties
from llmrec.data.splits import TEST, Split
from llmrec.errors import ConfigError
from llmrec.evaluation.intervals import bootstrap_means, difference_from_means, interval_from_means
from llmrec.evaluation.metric_rows import Comparison, MetricRow
from llmrec.evaluation.metrics import Values, compute_metrics, coverage
from llmrec.evaluation.model_rows import ModelRow
from llmrec.evaluation.ranking import Ranking, sample_queries
from llmrec.evaluation.results import Protocol, Report, SeedSpread, SplitReport
from llmrec.evaluation.run_metadata import RunMetadata
from llmrec.evaluation.slices import COLD_POOL
from llmrec.utils.arrays import Mask, Rows
from llmrec.utils.units import SECONDS_PER_DAY


def make_test_queries(split: Split, ties: Ties, config: EvaluationConfig, *, with_history: bool = False) -> Queries:
    """Build the test queries that all models of a split answer.

    Args:
        split: Split of a log.
        ties: Rule for events at the same time.
        config: Sample size, and first days of the test to use in a split by time.
        with_history: True to keep only targets before which their user has an event.

    Returns:
        Queries of the test part, or a sample of them.
    """
    queries = make_queries(split, TEST, ties=ties)
    if config.first_days is not None and split.name == "by_time":
        queries = queries.take(queries.time < split.test_start + config.first_days * SECONDS_PER_DAY)
    if with_history:
        queries = queries.take(queries.end > queries.start)
    return sample_queries(queries, config.max_queries)


def evaluate_split(
    split: str,
    queries: Queries,
    slices: Mapping[str, Mask],
    rankings: Mapping[ModelRow, Sequence[Ranking]],
    *,
    protocol: Protocol,
    config: EvaluationConfig,
    main: ModelRow,
    settings: Mapping[str, Any] | None = None,
    also: Sequence[ModelRow] = (),
) -> SplitReport:
    """Compute the numbers of all models on the queries of a split.

    Args:
        split: Name of the split.
        queries: Q queries that all models answered.
        slices: Masks (Q,) of `make_slices`, by name.
        rankings: By model, one for each seed.
        protocol: Rules that the numbers depend on.
        config: Cut-offs of the metrics, and bootstrap samples.
        main: Headline of the split; compared with every other model, in all metrics overall and in the primary one in
            each slice.
        settings: By name of the model, how it was fitted or tuned.
        also: Models that are compared like `main`.

    Returns:
        Metrics, comparisons and spread over seeds.

    Raises:
        ConfigError: If `main` was not ranked, or a ranking is of other queries.
    """
    _check(queries, rankings, main)
    rankings = {replace(row, seed=row.seed if len(of_row) == 1 else None): of_row for row, of_row in rankings.items()}
    names, values = _compute_values(rankings, config.cutoffs)  # M names of metrics; model -> (Q, M)
    rows: list[MetricRow] = []
    comparisons: list[Comparison] = []
    subjects = list(dict.fromkeys([main, *also]))
    pooled = _compute_values(rankings, config.cutoffs, in_pool=True)[1] if _have_pools(rankings) else None
    for slice_name, mask in slices.items():
        of_slice = pooled if slice_name == COLD_POOL else values
        if of_slice is None:
            continue
        part = _Slice.from_mask(
            split, slice_name, queries.user[mask], of_slice, mask=mask, samples=config.bootstrap_samples
        )
        compared = names if slice_name == "overall" else [get_primary_metric(config)]
        for model in values:
            rows += part.iterate_rows(model, names)
            for subject in subjects:
                if model != subject:
                    comparisons += part.iterate_comparisons(subject, model, names, compared)
    rows += _build_coverage_rows(split, rankings, protocol.n_items, config.cutoffs)
    spread = tuple(_seed_spread(split, rankings, names, config.cutoffs))
    return SplitReport(split, main, protocol, tuple(rows), tuple(comparisons), spread, dict(settings or {}))


def get_primary_metric(config: EvaluationConfig) -> str:
    """Return the metric that models are sorted and compared by: NDCG at the first cut-off.

    Args:
        config: Cut-offs of the metrics.

    Returns:
        Name of the metric, such as "ndcg@10".
    """
    return f"ndcg@{config.cutoffs[0]}"


def compute_weekly(
    split: Split,
    queries: Queries,
    rankings: Mapping[ModelRow, Sequence[Ranking]],
    models: Sequence[ModelRow],
    *,
    config: EvaluationConfig,
) -> tuple[MetricRow, ...]:
    """Compute the primary metric of some models by week after the cutoff.

    Args:
        split: Split by time.
        queries: Q queries that all models answered.
        rankings: By model, one for each seed.
        models: Models to compute it for.
        config: Cut-offs of the metrics, and bootstrap samples.

    Returns:
        Rows whose slice is the number of the week, from 1; weeks without a query are left out.
    """
    metric, week = get_primary_metric(config), (queries.time - split.test_start) // (7 * SECONDS_PER_DAY) + 1
    of_model = {model: _compute_values({model: rankings[model]}, config.cutoffs) for model in models}
    rows: list[MetricRow] = []
    for number in np.unique(week):
        mask = week == number
        values = {model: found[model][:, [names.index(metric)]] for model, (names, found) in of_model.items()}
        part = _Slice.from_mask(
            split.name, str(number), queries.user[mask], values, mask=mask, samples=config.bootstrap_samples
        )
        rows += [row for model in models for row in part.iterate_rows(model, [metric])]
    return tuple(rows)


def make_report(parts: Sequence[SplitReport], config: EvaluationConfig, run: RunMetadata) -> Report:
    """Combine all splits into one report.

    Args:
        parts: Results on each split, the headline's first.
        config: Cut-offs of the metrics, and bootstrap samples.
        run: Facts of the run.

    Returns:
        Report.
    """
    return Report(tuple(parts), get_primary_metric(config), config.bootstrap_samples, run)


@dataclass(frozen=True)
class _Slice:
    """The n queries of a slice: for each model its values (n, M) and their bootstrap means (samples, M)."""

    split: str
    slice: str
    user: Rows
    values: dict[ModelRow, Values]
    means: dict[ModelRow, Values]

    @classmethod
    def from_mask(
        cls, split: str, name: str, user: Rows, of_all: Mapping[ModelRow, Values], *, mask: Mask, samples: int
    ) -> _Slice:
        values = {model: of_model[mask] for model, of_model in of_all.items()}
        drawn = bootstrap_means(
            np.concatenate(list(values.values()), axis=1), user, samples=samples
        )  # the same for all models
        means = dict(zip(values, np.split(drawn, len(values), axis=1), strict=True))
        return cls(split, name, user, values, means)

    def iterate_rows(self, model: ModelRow, names: Sequence[str]) -> Iterator[MetricRow]:
        for m, metric in enumerate(names):
            value, low, high = interval_from_means(self.values[model][:, m], self.means[model][:, m], self.user)
            yield MetricRow(
                model, self.split, self.slice, metric, value, _nan_to_none(low), _nan_to_none(high), len(self.user)
            )

    def iterate_comparisons(
        self, main: ModelRow, against: ModelRow, names: Sequence[str], compared: Sequence[str]
    ) -> Iterator[Comparison]:
        where, n = (main, against, self.split, self.slice), len(self.user)
        for m, metric in enumerate(names):
            if metric in compared:
                gain = self.values[main][:, m] - self.values[against][:, m]
                drawn = self.means[main][:, m] - self.means[against][:, m]
                difference, low, high, p = difference_from_means(gain, drawn, self.user)
                yield Comparison(*where, metric, difference, _nan_to_none(low), _nan_to_none(high), _nan_to_none(p), n)


def _nan_to_none(number: float) -> float | None:
    """Convert NaN, which means that there is no interval, to None, which JSON has."""
    return None if np.isnan(number) else number


def _check(queries: Queries, rankings: Mapping[ModelRow, Sequence[Ranking]], main: ModelRow) -> None:
    if main not in rankings:
        raise ConfigError(
            f"main model {main.name!r} is not among the ranked ones {sorted(row.name for row in rankings)}"
        )
    for model, seeds in rankings.items():
        lengths = {len(ranking.rank) for ranking in seeds}
        if lengths != {len(queries)}:
            raise ConfigError(f"{model}: rankings of {sorted(lengths)} queries; expected {len(queries)} in each seed")


def _have_pools(rankings: Mapping[ModelRow, Sequence[Ranking]]) -> bool:
    return all(ranking.in_pool is not None for seeds in rankings.values() for ranking in seeds)


def _compute_values(
    rankings: Mapping[ModelRow, Sequence[Ranking]], cutoffs: tuple[int, ...], *, in_pool: bool = False
) -> tuple[list[str], dict[ModelRow, Values]]:
    """Compute for each model its values (Q, M), averaged over seeds; M names of metrics come first."""
    values: dict[ModelRow, Values] = {}
    names: list[str] = []
    for model, seeds in rankings.items():
        ranks = [ranking.in_pool if in_pool and ranking.in_pool is not None else ranking.rank for ranking in seeds]
        of_seeds = [compute_metrics(rank, cutoffs) for rank in ranks]
        names = list(of_seeds[0])
        values[model] = np.mean([np.column_stack(list(metrics.values())) for metrics in of_seeds], axis=0)
    return names, values


def _build_coverage_rows(
    split: str, rankings: Mapping[ModelRow, Sequence[Ranking]], n_items: int, cutoffs: tuple[int, ...]
) -> list[MetricRow]:
    rows: list[MetricRow] = []
    for model, seeds in rankings.items():
        for k in cutoffs:
            covered = float(np.mean([coverage(ranking.top[:, :k], n_items) for ranking in seeds]))
            rows.append(MetricRow(model, split, "overall", f"coverage@{k}", covered, None, None, len(seeds[0].rank)))
    return rows


def _seed_spread(
    split: str, rankings: Mapping[ModelRow, Sequence[Ranking]], names: Sequence[str], cutoffs: tuple[int, ...]
) -> list[SeedSpread]:
    """Return each seed's overall mean and their standard deviation, of models with several seeds."""
    spread: list[SeedSpread] = []
    for model, seeds in rankings.items():
        if len(seeds) < 2:
            continue
        of_seeds = [compute_metrics(ranking.rank, cutoffs) for ranking in seeds]
        for metric in names:
            means = tuple(float(metrics[metric].mean()) for metrics in of_seeds)
            spread.append(SeedSpread(model.name, split, metric, means, float(np.std(means, ddof=1))))
    return spread
