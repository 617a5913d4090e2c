"""From rankings to numbers: every model, metric and slice with its interval, and the main model against each other.

All models of a split answer the same queries, and all means come from the same bootstrap draws of users, so that
every difference is a paired one. Of several seeds, a query's metric is the mean over the seeds; how far the seeds
lie apart is told beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from llmrec.config import EvaluationConfig
from llmrec.data.histories import Queries
from llmrec.data.interactions import Mask, Ties
from llmrec.errors import ConfigError
from llmrec.evaluation.intervals import bootstrap_means, difference_of, interval_of
from llmrec.evaluation.metrics import Values, coverage, metric_values
from llmrec.evaluation.ranking import Ranking


@dataclass(frozen=True, slots=True)
class Row:
    """One number of the report, over n queries.

    low, high: the 95% interval; None where there is none (coverage, a single user).
    """

    model: str
    split: str
    slice: str
    metric: str
    value: float
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """model - against on the same n queries: difference with its 95% interval and two-sided p."""

    model: str
    against: str
    split: str
    slice: str
    metric: str
    difference: float
    low: float | None
    high: float | None
    p: float | None
    n: int

    @property
    def verdict(self) -> Literal["better", "worse", "no clear difference"]:
        """Whether the whole interval lies on one side of zero."""
        if self.low is not None and self.low > 0:
            return "better"
        if self.high is not None and self.high < 0:
            return "worse"
        return "no clear difference"


@dataclass(frozen=True, slots=True)
class Protocol:
    """The rules that the numbers of a split depend on."""

    n_items: int
    ties: Ties
    query_time: Literal["known", "last_event"]
    mask_seen: bool
    fitted_on: Literal["train", "train+validation"] = "train"
    release_dates: bool = False


@dataclass(frozen=True)
class Evaluated:
    """All that is known of one split. seeds: the spread of every model that was fitted more than once."""

    split: str
    protocol: Protocol
    rows: tuple[Row, ...]
    comparisons: tuple[Comparison, ...]
    seeds: tuple[dict[str, Any], ...]
    settings: dict[str, Any]


@dataclass(frozen=True)
class Report:
    """What `report.json` holds.

    rows: every number. run: `main`, `primary`, `protocol` and `settings` by split, `comparisons`, `seeds`, and the
    metadata of the run.
    """

    rows: tuple[Row, ...]
    run: dict[str, Any]

    @property
    def comparisons(self) -> tuple[Comparison, ...]:
        return tuple(Comparison(**fields) for fields in self.run["comparisons"])

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(self.run["protocol"])


def evaluate_split(
    split: str,
    queries: Queries,
    slices: Mapping[str, Mask],
    rankings: Mapping[str, Sequence[Ranking]],
    protocol: Protocol,
    config: EvaluationConfig,
    main: str,
    settings: Mapping[str, Any] | None = None,
) -> Evaluated:
    """Numbers of all models on one split's queries.

    slices: of `make_slices`, each a mask (Q,). rankings: by model, one for each seed; `main` is compared with every
    other. settings: by model, how it was chosen (`Search.record()`).

    Raises:
        ConfigError: `main` was not ranked, or a ranking is of other queries.
    """
    _check(queries, rankings, main)
    names, values = _values(rankings, config.cutoffs)  # M names of metrics; model -> (Q, M)
    rows: list[Row] = []
    comparisons: list[Comparison] = []
    for slice_name, mask in slices.items():
        user, inside = queries.user[mask], {model: of_model[mask] for model, of_model in values.items()}
        means = _bootstrap(inside, user, config.bootstrap_samples)
        n = len(user)
        for model, of_model in inside.items():
            for m, metric in enumerate(names):
                interval = interval_of(of_model[:, m], means[model][:, m], user)
                rows.append(Row(model, split, slice_name, metric, *_known(interval), n=n))
                if model != main and (slice_name == "overall" or metric == primary_metric(config)):
                    drawn = means[main][:, m] - means[model][:, m]
                    found = difference_of(inside[main][:, m] - of_model[:, m], drawn, user)
                    comparisons.append(Comparison(main, model, split, slice_name, metric, *_known(found), n=n))
    rows += _coverage_rows(split, rankings, protocol.n_items, config.cutoffs)
    spread = tuple(_spread(split, rankings, names, config.cutoffs))
    return Evaluated(split, protocol, tuple(rows), tuple(comparisons), spread, dict(settings or {}))


def primary_metric(config: EvaluationConfig) -> str:
    """What models are sorted and compared by: NDCG at the first cut-off."""
    return f"ndcg@{config.cutoffs[0]}"


def make_report(
    evaluated: Sequence[Evaluated], config: EvaluationConfig, main: str, metadata: Mapping[str, Any]
) -> Report:
    """One report of all splits. metadata: free, of JSON types (commit, data, seeds, seconds ...)."""
    run = dict(metadata) | {
        "main": main,
        "primary": primary_metric(config),
        "bootstrap_samples": config.bootstrap_samples,
        "protocol": {part.split: asdict(part.protocol) for part in evaluated},
        "settings": {part.split: part.settings for part in evaluated},
        "seeds": [spread for part in evaluated for spread in part.seeds],
        "comparisons": [asdict(comparison) for part in evaluated for comparison in part.comparisons],
    }
    return Report(tuple(row for part in evaluated for row in part.rows), run)


def _check(queries: Queries, rankings: Mapping[str, Sequence[Ranking]], main: str) -> None:
    if main not in rankings:
        raise ConfigError(f"main model {main!r} is not among the ranked ones {sorted(rankings)}")
    for model, seeds in rankings.items():
        lengths = {len(ranking.rank) for ranking in seeds}
        if lengths != {len(queries)}:
            raise ConfigError(f"{model}: rankings of {sorted(lengths)} queries; expected {len(queries)} in each seed")


def _values(rankings: Mapping[str, Sequence[Ranking]], cutoffs: tuple[int, ...]) -> tuple[list[str], dict[str, Values]]:
    """Names of the M metrics, and for each model its values (Q, M), averaged over seeds."""
    values: dict[str, Values] = {}
    names: list[str] = []
    for model, seeds in rankings.items():
        of_seeds = [metric_values(ranking.rank, cutoffs) for ranking in seeds]
        names = list(of_seeds[0])
        values[model] = np.mean([np.column_stack(list(metrics.values())) for metrics in of_seeds], axis=0)
    return names, values


def _bootstrap(
    inside: Mapping[str, Values], user: np.ndarray[Any, np.dtype[np.int64]], samples: int
) -> dict[str, Values]:
    """Bootstrap means (samples, M) of each model, all from the same draws."""
    means = bootstrap_means(np.concatenate(list(inside.values()), axis=1), user, samples)
    return dict(zip(inside, np.split(means, len(inside), axis=1), strict=True))


def _known(numbers: tuple[float, ...]) -> tuple[Any, ...]:
    """NaN (there is no interval) as None, which JSON has."""
    return tuple(None if np.isnan(number) else number for number in numbers)


def _coverage_rows(
    split: str, rankings: Mapping[str, Sequence[Ranking]], n_items: int, cutoffs: tuple[int, ...]
) -> list[Row]:
    rows: list[Row] = []
    for model, seeds in rankings.items():
        for k in cutoffs:
            covered = float(np.mean([coverage(ranking.top[:, :k], n_items) for ranking in seeds]))
            rows.append(Row(model, split, "overall", f"coverage@{k}", covered, None, None, n=len(seeds[0].rank)))
    return rows


def _spread(
    split: str, rankings: Mapping[str, Sequence[Ranking]], names: Sequence[str], cutoffs: tuple[int, ...]
) -> list[dict[str, Any]]:
    """Of models with several seeds: each seed's overall mean, and their standard deviation."""
    spread: list[dict[str, Any]] = []
    for model, seeds in rankings.items():
        if len(seeds) < 2:
            continue
        of_seeds = [metric_values(ranking.rank, cutoffs) for ranking in seeds]
        for metric in names:
            means = [float(metrics[metric].mean()) for metrics in of_seeds]
            std = float(np.std(means, ddof=1))
            spread.append({"model": model, "split": split, "metric": metric, "values": means, "std": std})
    return spread
