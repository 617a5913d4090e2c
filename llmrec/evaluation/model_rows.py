"""Models of a report: what they are, and how reports name them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

RowKind = Literal["llmrec", "drift", "baseline", "student", "transfer", "rerank"]
_NAMES: dict[tuple[RowKind, str], str] = {
    ("llmrec", "none"): "llmrec (ids only)",
    ("llmrec", "frozen"): "llmrec (frozen backbone)",
    ("llmrec", "last_k"): "llmrec (last layers)",
    ("llmrec", "lora"): "llmrec (LoRA)",
    ("llmrec", "full"): "llmrec (full backbone)",
    ("drift", "static"): "llmrec + drift, static",
    ("drift", "refresh_1d"): "llmrec + drift, refreshed daily",
    ("drift", "control"): "freshness control (no learned drift)",
    ("baseline", "recent_popularity"): "recent popularity",
    ("baseline", "recent_popularity_static"): "recent popularity, static",
    ("baseline", "item_knn"): "ItemKNN",
    ("baseline", "item_knn_streaming"): "ItemKNN, streaming",
    ("baseline", "item_knn_decayed"): "ItemKNN, decaying",
    ("baseline", "recency_decay"): "recency decay",
    ("baseline", "matrix"): "matrix model",
    ("baseline", "matrix_product"): "matrix model, product",
    ("baseline", "nearest_text"): "nearest text",
    ("baseline", "sasrec"): "SASRec",
    ("baseline", "sasrec_sampled"): "SASRec, sampled negatives",
    ("student", "undistilled"): "student before distillation",
    ("student", "distilled"): "student",
    ("transfer", "zero_shot"): "zero-shot",
    ("transfer", "features"): "source features",
    ("transfer", "initialized"): "source weights",
    ("transfer", "scratch"): "from scratch",
    ("rerank", "lm_mean"): "language model (mean)",
    ("rerank", "lm_sum"): "language model (sum)",
    ("rerank", "lm_gain"): "language model (gain)",
    ("rerank", "random"): "random order",
}


@dataclass(frozen=True, slots=True)
class ModelRow:
    """A model of a report.

    kind, strategy: what it is, and in which variant. refresh: days between two updates of its counts during the test,
    0 for one with every event; None where nothing is updated. seed: of its training; None where nothing is random, or
    the mean over several. Rows that differ in their seed alone are equal.
    """

    kind: RowKind
    strategy: str
    refresh: float | None = None
    seed: int | None = field(default=None, compare=False)

    @classmethod
    def refreshed(cls, days: float) -> ModelRow:
        """Return the row of a drift head whose counts are updated every so many days."""
        return cls("drift", f"refresh_{days:g}d", days)

    @property
    def name(self) -> str:
        """Name that people see."""
        if (self.kind, self.strategy) in _NAMES:
            return _NAMES[self.kind, self.strategy]
        words = self.strategy.replace("_", " ")
        return f"llmrec + drift, refreshed every {self.refresh:g} days" if words.startswith("refresh ") else words

    def __str__(self) -> str:
        return self.name

    def to_record(self) -> dict[str, Any]:
        """Return the fields of a row in report.json, the name as `model`."""
        return {"model": self.name} | asdict(self)

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> ModelRow:
        """Read a row of report.json."""
        return cls(*(record[each.name] for each in fields(cls)))


DRIFT_STATIC = ModelRow("drift", "static")
FROZEN = ModelRow("llmrec", "frozen")
STUDENT, UNDISTILLED, TEACHER = (ModelRow("student", name) for name in ("distilled", "undistilled", "teacher"))
