"""Settings of evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, get_args

from llmrec.config.data import DataConfig
from llmrec.config.validation import COUNT_FROM_0, COUNT_FROM_1, WIDTH, Bounds

Baseline = Literal[
    "popularity",
    "recent_popularity",
    "item_knn",
    "item_knn_streaming",
    "matrix",
    "nearest_text",
    "nearest_text_map",
    "sasrec",
    "sasrec_sampled",
]


@dataclass(frozen=True)
class EvaluationConfig:
    """Evaluation by ranking the whole catalog."""

    cutoffs: Annotated[tuple[int, ...], Bounds(1, WIDTH)] = (10, 20)
    """Lengths k of the lists that metrics are computed on."""
    first_days: Annotated[int | None, COUNT_FROM_1] = None
    """Days of the test part that are evaluated, by_time only; null: all."""
    max_queries: Annotated[int, COUNT_FROM_1] = 50_000
    """Test queries; a seeded sample if there are more."""
    max_valid_queries: Annotated[int, COUNT_FROM_1] = 10_000
    """Validation queries; a seeded sample if there are more."""
    tuning_budget: Annotated[int, COUNT_FROM_1] = 12
    """Settings that are tried for each baseline."""
    tuning_queries: Annotated[int, COUNT_FROM_1] = 5_000
    """Validation queries that tuning uses."""
    mask_seen: bool | None = None
    """Leave items of the history out of rankings and recommendations; null: unless data.repeats is keep."""
    bootstrap_samples: Annotated[int, Bounds(1, 2**20)] = 1000
    """Resamples of users for 95% intervals."""
    n_explained_users: Annotated[int, COUNT_FROM_0] = 100
    """Users whose first recommendation is explained and tested by deletion; 0: none."""
    baselines: tuple[Baseline, ...] = get_args(Baseline)
    """Models to compare with."""

    def masks_seen(self, data: DataConfig) -> bool:
        """Return whether items of the history are left out of rankings, and so of recommendations.

        Args:
            data: Settings of the log.

        Returns:
            `mask_seen`, or what suits the log where it is null.
        """
        return data.repeats == "drop" if self.mask_seen is None else self.mask_seen
