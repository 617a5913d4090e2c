"""The configuration of evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from llmrec.errors import ConfigError

Baseline = Literal[
    "popularity",
    "recent_popularity",
    "item_knn",
    "item_knn_streaming",
    "matrix",
    "nearest_text",
    "sasrec",
    "sasrec_sampled",
]


@dataclass(frozen=True)
class EvaluationConfig:
    """Full ranking over the whole catalog.

    first_days: only the targets of the test's first days, which a model that is trained anew so often would meet; null:
        all of them. `by_time` alone.
    max_queries, max_valid_queries: a seeded sample where the test or validation part has more.
    tuning_budget, tuning_queries: settings tried for each baseline, and validation queries looked at for each.
    mask_seen: leave what the history holds out of the ranking; not for repeat consumption.
    n_explained_users: users whose first recommendation is explained, and the explanations tested by deletion; 0: none.
        Of
        models whose backbone reads histories nothing is: each event that is left out would cost a reading.
    """

    cutoffs: tuple[int, ...] = (10, 20)
    first_days: int | None = None
    max_queries: int = 50_000
    max_valid_queries: int = 10_000
    tuning_budget: int = 12
    tuning_queries: int = 5_000
    mask_seen: bool = True
    bootstrap_samples: int = 1000
    n_explained_users: int = 100
    baselines: tuple[Baseline, ...] = get_args(Baseline)

    def __post_init__(self) -> None:
        if self.first_days is not None and self.first_days < 1:
            raise ConfigError(f"evaluation.first_days={self.first_days}; give 1 or more, or null for the whole test")
