"""Tuning of baselines: NDCG@10 on validation queries over a small grid."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from tqdm import tqdm

from llmrec.data.histories import Queries
from llmrec.evaluation.ranking import Scorer, mean_ndcg

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

logger = logging.getLogger(__name__)
S = TypeVar("S", bound="DataclassInstance")


@dataclass(frozen=True)
class Tuning:
    """Budget of a search, the same for every baseline."""

    budget: int = 12
    """Number of settings to try: the default first, then a seeded draw from the grid."""
    queries: int = 5000
    """Number of validation queries."""
    mask_seen: bool = True
    """True to mask the items of the history, as in the evaluation."""
    seed: int = 0
    """Seed of the draws."""


@dataclass(frozen=True)
class TuningResult(Generic[S]):
    """Settings that a search has tried and chosen."""

    chosen: S
    """Settings with the highest NDCG@10."""
    tried: tuple[tuple[S, float], ...]
    """Each tried setting with its validation NDCG@10."""

    def to_record(self) -> dict[str, Any]:
        """Convert to the record of a report.

        Returns:
            Number of settings, their metrics and the chosen one.
        """
        return {
            "chosen": asdict(self.chosen),
            "n_tried": len(self.tried),
            "valid_ndcg@10": max(ndcg for _, ndcg in self.tried),
            "tried": [asdict(settings) | {"valid_ndcg@10": ndcg} for settings, ndcg in self.tried],
        }


def tune_on_grid(
    name: str, default: S, grid: Iterable[S], build: Callable[[S], tuple[Scorer, S]], *, valid: Queries, tuning: Tuning
) -> TuningResult[S]:
    """Build a scorer for each setting and choose the best on validation queries, the first of equals.

    Args:
        name: Name on the progress bar.
        default: Setting to try first.
        grid: Other settings.
        build: Function that returns a scorer and its final settings, such as the epochs of early stopping.
        valid: Validation queries.
        tuning: Budget of the search.

    Returns:
        Tried and chosen settings.
    """
    others = [point for point in grid if point != default]
    random.Random(tuning.seed).shuffle(others)
    tried: list[tuple[S, float]] = []
    for point in tqdm([default, *others][: tuning.budget], desc=f"tuning {name}", unit="setting", disable=None):
        scorer, settings = build(point)
        tried.append((settings, mean_ndcg(scorer, valid, mask_seen=tuning.mask_seen)))
        logger.info("%s, setting %d: valid ndcg@10 %.4f", name, len(tried), tried[-1][1])
    chosen, _ = max(tried, key=lambda pair: pair[1])
    return TuningResult(chosen, tuple(tried))
