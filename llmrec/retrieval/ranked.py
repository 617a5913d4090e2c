"""A ranked list of a catalog's items."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from llmrec.data.catalog import ItemCatalog
from llmrec.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Recommendation:
    """One item of a ranked list: rank from 1, the item's id and label, and its score on the model's own scale."""

    rank: int
    item: str
    label: str
    score: float


def best(catalog: ItemCatalog, scores: Tensor, k: int) -> list[Recommendation]:
    """The k best of (N,) scores on the CPU, those at -inf left out."""
    top, rows = (column.tolist() for column in scores.topk(min(k, len(scores))))
    pairs = [(score, row) for score, row in zip(top, rows, strict=True) if score != -float("inf")]
    return [
        Recommendation(rank, str(catalog.ids[row]), catalog.label(row), score)
        for rank, (score, row) in enumerate(pairs, start=1)
    ]


def check_k(k: int) -> None:
    """Raises ConfigError where not even one is asked for."""
    if k < 1:
        raise ConfigError(f"k={k}: ask for at least one")
