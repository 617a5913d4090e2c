"""Baselines, each tuned on the validation queries with the same budget of settings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmrec.data.histories import Queries
from llmrec.data.splits import Split
from llmrec.errors import ConfigError
from llmrec.evaluation.baselines.item_knn import ItemKNN, ItemKNNSettings
from llmrec.evaluation.baselines.item_knn_streaming import StreamingItemKNN, StreamingRow, StreamingSettings
from llmrec.evaluation.baselines.mapped_text import make_mapped_text
from llmrec.evaluation.baselines.matrix_model import MatrixForm, MatrixModel, MatrixSettings
from llmrec.evaluation.baselines.nearest_text import NearestText, NearestTextSettings
from llmrec.evaluation.baselines.popularity import Popularity, RecentPopularity, RecentSettings
from llmrec.evaluation.baselines.tuning import Tuning, TuningResult
from llmrec.evaluation.ranking import Scorer, sample_queries

__all__ = [
    "BASELINES",
    "BaselineTask",
    "FittedBaseline",
    "ItemKNN",
    "ItemKNNSettings",
    "MatrixModel",
    "MatrixSettings",
    "NearestText",
    "NearestTextSettings",
    "Popularity",
    "RecentPopularity",
    "RecentSettings",
    "StreamingItemKNN",
    "StreamingSettings",
    "Tuning",
    "TuningResult",
    "fit_baselines",
]


@dataclass(frozen=True)
class BaselineTask:
    """Data and settings for fitting baselines."""

    tune_on: Split
    """Split whose training part baselines are tuned with, on `valid`."""
    fit_on: Split
    """Split that they are finally fitted on: the same, or `tune_on.merge_validation()`."""
    valid: Queries
    """Validation queries."""
    text_vectors: NDArray[np.float32] | None = None
    """Text vectors of the catalog, (N, D), for baselines that use text."""
    tuning: Tuning = field(default_factory=Tuning)
    """Budget of the search."""
    seeds: tuple[int, ...] = (0,)
    """Seeds; a trained baseline is fitted once for each."""

    @property
    def tuning_queries(self) -> Queries:
        """Sample of validation queries that all searches use."""
        return sample_queries(self.valid, self.tuning.queries, seed=self.tuning.seed)


@dataclass(frozen=True)
class FittedBaseline:
    """Baseline that is ready to rank."""

    scorers: tuple[Scorer, ...]
    """Scorer for each seed; one if nothing is random."""
    record: dict[str, Any]
    """Record of its search."""
    refresh: float | None = None
    """Days after which it counts the events of the test, 0 for at once; None for a static one."""


def fit_baselines(names: Sequence[str], task: BaselineTask) -> dict[str, FittedBaseline]:
    """Tune and fit baselines; some give two rows, such as the static form of recent popularity.

    Args:
        names: Names in BASELINES.
        task: Data and settings.

    Returns:
        Fitted baselines by name of the row.

    Raises:
        ConfigError: If a name is unknown, or a baseline needs text vectors and there are none.
    """
    unknown = sorted(set(names) - set(BASELINES))
    if unknown:
        raise ConfigError(f"baselines: {unknown} are unknown. Choose from {sorted(BASELINES)}.")
    fitted: dict[str, FittedBaseline] = {}
    for name in names:
        fitted |= BASELINES[name](task)
    return fitted


def _fit_popularity(task: BaselineTask) -> dict[str, FittedBaseline]:
    return {"popularity": FittedBaseline((Popularity.fit(task.fit_on),), {})}


def _fit_recent_popularity(task: BaselineTask) -> dict[str, FittedBaseline]:
    found = RecentPopularity.tune(task.tune_on, task.tuning_queries, task.tuning)
    streaming = RecentPopularity.fit(task.fit_on, found.chosen)
    static = RecentPopularity.fit_static(task.fit_on, found.chosen)
    return {
        "recent_popularity": FittedBaseline((streaming,), found.to_record(), refresh=0.0),
        "recent_popularity_static": FittedBaseline((static,), found.to_record()),
    }


def _fit_item_knn(task: BaselineTask) -> dict[str, FittedBaseline]:
    found = ItemKNN.tune(task.tune_on, task.tuning_queries, task.tuning)
    return {"item_knn": FittedBaseline((ItemKNN.fit(task.fit_on, found.chosen),), found.to_record())}


def _fit_streaming_item_knn(task: BaselineTask) -> dict[str, FittedBaseline]:
    """Fit the rows that count events from the day after, of all parts, so that there is nothing to refit."""
    rows: tuple[StreamingRow, ...] = ("item_knn_streaming", "item_knn_decayed", "recency_decay")
    fitted: dict[str, FittedBaseline] = {}
    for row in rows:
        found = StreamingItemKNN.tune(task.tune_on, task.tuning_queries, row, task.tuning)
        scorer = StreamingItemKNN.fit(task.fit_on, found.chosen)
        fitted[row] = FittedBaseline((scorer,), found.to_record(), refresh=1.0)
    return fitted


def _fit_matrix(task: BaselineTask) -> dict[str, FittedBaseline]:
    forms: tuple[tuple[str, MatrixForm], ...] = (("matrix", "additive"), ("matrix_product", "product"))
    fitted = {}
    for name, form in forms:
        found = MatrixModel.tune(task.tune_on, task.tuning_queries, form, task.tuning)
        scorers = tuple(MatrixModel.fit(task.fit_on, replace(found.chosen, seed=seed)) for seed in task.seeds)
        fitted[name] = FittedBaseline(scorers, found.to_record())
    return fitted


def _fit_nearest_text(task: BaselineTask) -> dict[str, FittedBaseline]:
    if task.text_vectors is None:
        raise ConfigError(
            "baseline 'nearest_text': no text vectors of the catalog. Give a backbone or leave the baseline out."
        )
    found = NearestText.tune(task.text_vectors, task.tuning_queries, task.tuning)
    return {"nearest_text": FittedBaseline((NearestText.fit(task.text_vectors, found.chosen),), found.to_record())}


def _fit_nearest_text_map(task: BaselineTask) -> dict[str, FittedBaseline]:
    if task.text_vectors is None:
        raise ConfigError(
            "baseline 'nearest_text_map': no text vectors of the catalog. Give a backbone or leave the baseline out."
        )
    tuned = make_mapped_text(task.tune_on, task.text_vectors)
    final = tuned if task.fit_on is task.tune_on else make_mapped_text(task.fit_on, task.text_vectors)
    if tuned is None or final is None:  # no user has two items
        return {}
    found = tuned.tune(task.tuning_queries, task.tuning)
    return {"nearest_text_map": FittedBaseline((final.fit(found.chosen),), found.to_record())}


BASELINES: dict[str, Callable[[BaselineTask], dict[str, FittedBaseline]]] = {
    "popularity": _fit_popularity,
    "recent_popularity": _fit_recent_popularity,
    "item_knn": _fit_item_knn,
    "item_knn_streaming": _fit_streaming_item_knn,
    "matrix": _fit_matrix,
    "nearest_text": _fit_nearest_text,
    "nearest_text_map": _fit_nearest_text_map,
}
