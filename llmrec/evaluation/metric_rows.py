"""Numbers of a report: metrics of models, and differences between models on the same queries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from llmrec.evaluation.model_rows import ModelRow

Verdict = Literal["better", "worse", "no clear difference"]


@dataclass(frozen=True, slots=True)
class MetricRow:
    """One number of the report."""

    model: ModelRow
    """Model that the number is of."""
    split: str
    """Name of the split."""
    slice: str
    """Name of the slice; "overall" for all queries."""
    metric: str
    """Name of the metric, such as "ndcg@10"."""
    value: float
    """Mean over the queries, or the share of the catalog for coverage."""
    low: float | None
    """Lower end of the 95% interval; None if there is none (coverage, a single user)."""
    high: float | None
    """Upper end of the 95% interval; None if there is none."""
    n: int
    """Number of queries."""

    def to_record(self) -> dict[str, Any]:
        """Convert the row to the record of report.json.

        Returns:
            Fields of the row and of its model.
        """
        own = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "model"}
        return self.model.to_record() | own

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> MetricRow:
        """Read a row of report.json.

        Args:
            record: Fields of the row and of its model.

        Returns:
            Row.
        """
        own = [record[each.name] for each in fields(cls) if each.name != "model"]
        return cls(ModelRow.from_record(record), *own)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Paired difference between two models on the same queries."""

    model: ModelRow
    """Model whose metric comes first."""
    against: ModelRow
    """Model whose metric is subtracted."""
    split: str
    """Name of the split."""
    slice: str
    """Name of the slice; "overall" for all queries."""
    metric: str
    """Name of the metric."""
    difference: float
    """Mean of `model` minus mean of `against`."""
    low: float | None
    """Lower end of the 95% interval; None if there is none."""
    high: float | None
    """Upper end of the 95% interval; None if there is none."""
    p: float | None
    """Two-sided p-value; None if there is none."""
    n: int
    """Number of queries."""

    @property
    def verdict(self) -> Verdict:
        """Side of zero that the whole interval is on, if it is on one."""
        if self.low is not None and self.low > 0:
            return "better"
        if self.high is not None and self.high < 0:
            return "worse"
        return "no clear difference"

    def to_record(self) -> dict[str, Any]:
        """Convert the comparison to the record of report.json.

        Returns:
            Fields, with models by their names.
        """
        own = {each.name: getattr(self, each.name) for each in fields(self)}
        return own | {"model": self.model.name, "against": self.against.name}


def format_interval(low: float | None, high: float | None, *, sign: str = "") -> str:
    """Format an interval with four decimals.

    Args:
        low: Lower end; None if there is no interval.
        high: Upper end; None if there is no interval.
        sign: "+" to show the sign of positive numbers, for differences.

    Returns:
        Interval in brackets, "" if there is none.
    """
    return "" if low is None or high is None else f"[{low:{sign}.4f}, {high:{sign}.4f}]"
