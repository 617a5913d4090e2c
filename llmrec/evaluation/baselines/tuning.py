"""One way to tune every baseline: NDCG@10 on the validation queries over a small, counted grid."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from tqdm import tqdm

from llmrec.data.histories import Queries
from llmrec.evaluation.ranking import Scorer, mean_ndcg

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

S = TypeVar("S", bound="DataclassInstance")


@dataclass(frozen=True)
class Tuning:
    """How hard to look, the same for every baseline.

    budget: settings tried, the default first and then a seeded draw from the grid.
    queries: validation queries looked at. mask_seen: as in the evaluation.
    """

    budget: int = 12
    queries: int = 5000
    mask_seen: bool = True
    seed: int = 0


@dataclass(frozen=True)
class TuningResult(Generic[S]):
    """What a search tried, (settings, validation NDCG@10) each, and what it chose."""

    chosen: S
    tried: tuple[tuple[S, float], ...]

    def to_record(self) -> dict[str, Any]:
        """For the report: how much was searched, and what came of it."""
        return {
            "chosen": asdict(self.chosen),
            "n_tried": len(self.tried),
            "valid_ndcg@10": max(ndcg for _, ndcg in self.tried),
            "tried": [asdict(settings) | {"valid_ndcg@10": ndcg} for settings, ndcg in self.tried],
        }


def tune_on_grid(
    name: str, default: S, grid: Iterable[S], build: Callable[[S], tuple[Scorer, S]], valid: Queries, tuning: Tuning
) -> TuningResult[S]:
    """Builds a scorer for each setting tried and keeps the best on the validation queries (the first of equals).

    build: settings -> (scorer, settings as they came out, such as the epochs that early stopping found).
    """
    others = [point for point in grid if point != default]
    random.Random(tuning.seed).shuffle(others)
    tried: list[tuple[S, float]] = []
    for point in tqdm([default, *others][: tuning.budget], desc=f"tuning {name}", unit="setting", disable=None):
        scorer, settings = build(point)
        tried.append((settings, mean_ndcg(scorer, valid, mask_seen=tuning.mask_seen)))
    chosen, _ = max(tried, key=lambda pair: pair[1])
    return TuningResult(chosen, tuple(tried))
