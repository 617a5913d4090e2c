"""Models of a report: their identity, and their names in reports."""

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
    ("llmrec", "peft"): "llmrec (PEFT adapter)",
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
    ("baseline", "nearest_text_map"): "nearest text + spectral map",
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
    """Model of a report; rows that differ in their seed alone are equal."""

    kind: RowKind
    """Kind of the model."""
    strategy: str
    """Variant within the kind, such as the strategy of the backbone or the name of a baseline."""
    refresh: float | None = None
    """Days between updates of its counts during the test, 0 for every event; None if it has no updates."""
    seed: int | None = field(default=None, compare=False)
    """Seed of its training; None if nothing is random, or for the mean over several."""

    @classmethod
    def refreshed(cls, days: float) -> ModelRow:
        """Return the row of a drift head whose counts are updated at intervals.

        Args:
            days: Days between two updates.

        Returns:
            Row of kind "drift".
        """
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
        """Convert the row to the record of report.json.

        Returns:
            Fields of the row, and its name as `model`.
        """
        return {"model": self.name} | asdict(self)

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> ModelRow:
        """Read a row of report.json.

        Args:
            record: Fields of the row.

        Returns:
            Row.
        """
        return cls(*(record[each.name] for each in fields(cls)))


DRIFT_STATIC = ModelRow("drift", "static")
FROZEN = ModelRow("llmrec", "frozen")
STUDENT, UNDISTILLED, TEACHER = (ModelRow("student", name) for name in ("distilled", "undistilled", "teacher"))
