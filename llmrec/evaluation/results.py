"""Results of an evaluation: numbers, comparisons, and the rules they depend on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

from llmrec.data.interactions import Ties
from llmrec.evaluation.metric_rows import Comparison, MetricRow, format_interval
from llmrec.evaluation.model_rows import ModelRow
from llmrec.evaluation.run_metadata import RunMetadata
from llmrec.utils.html import format_html_table
from llmrec.utils.text import format_table

SCHEMA = 2  # of report.json; a reader refuses others


@dataclass(frozen=True, slots=True)
class SeedSpread:
    """One metric of a model that was trained with several seeds."""

    model: str
    """Name of the model."""
    split: str
    """Name of the split."""
    metric: str
    """Name of the metric."""
    values: tuple[float, ...]
    """Mean of each seed."""
    std: float
    """Standard deviation of the means."""


@dataclass(frozen=True, slots=True)
class Protocol:
    """Rules that the numbers of a split depend on."""

    n_items: int
    """Number of items in the catalog."""
    ties: Ties
    """Rule for events at the same time."""
    query_time: Literal["known", "last_event"]
    """Time that models are given: that of the target, or of the last event."""
    mask_seen: bool
    """True if seen items are masked."""
    fitted_on: Literal["train", "train+validation"] = "train"
    """Parts of the log that models are fitted on."""
    release_dates: bool = False
    """True if items are masked before their release date."""
    streaming: tuple[str, ...] = ()
    """Names of the models whose counts are updated during the test; the others are static."""
    first_days: int | None = None
    """Days of the test that are evaluated, from its start; None for all."""
    candidates: str | None = None
    """Items that a target is ranked among; None for the whole catalog."""


@dataclass(frozen=True)
class SplitReport:
    """All results on one split."""

    split: str
    """Name of the split."""
    headline: ModelRow
    """Model that the bundle answers with, if the split is the first one."""
    protocol: Protocol
    """Rules that the numbers depend on."""
    rows: tuple[MetricRow, ...]
    """Metrics by model and slice."""
    comparisons: tuple[Comparison, ...]
    """Paired differences between models."""
    seeds: tuple[SeedSpread, ...] = ()
    """Spread of every model that was fitted more than once."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Fitted or tuned settings, by name of the model."""
    weekly: tuple[MetricRow, ...] = ()
    """Primary metric by week after the cutoff; the slice is the number of the week, from 1."""

    def to_table(self, primary: str) -> list[list[str]]:
        """Return all models on all queries, best first by one metric.

        Args:
            primary: Metric to sort by, which comes first, with its interval.

        Returns:
            Cells of each row, the heads of the columns first; a star marks the headline.
        """
        rows = {(row.model, row.metric): row for row in self.rows if row.slice == "overall"}
        metrics = [name for name in dict.fromkeys(metric for _, metric in rows) if name != primary]
        best = sorted((row for row in rows.values() if row.metric == primary), key=lambda row: -row.value)
        lines = [["model", primary, "95% interval", *metrics]]
        for row in best:
            name = f"{row.model} *" if row.model == self.headline else row.model.name
            rest = [f"{rows[row.model, metric].value:.4f}" for metric in metrics]
            lines.append([name, f"{row.value:.4f}", format_interval(row.low, row.high), *rest])
        return lines

    def to_record(self) -> dict[str, Any]:
        """Convert the results to the record of report.json.

        Returns:
            Everything but the split's rows, which report.json keeps in one list.
        """
        return {
            "headline": self.headline.name,
            "protocol": asdict(self.protocol),
            "comparisons": [comparison.to_record() for comparison in self.comparisons],
            "seeds": [asdict(spread) for spread in self.seeds],
            "settings": dict(self.settings),
            "weekly": [row.to_record() for row in self.weekly],
        }

    @classmethod
    def from_record(cls, split: str, record: Mapping[str, Any], rows: Sequence[MetricRow]) -> SplitReport:
        """Read a split of report.json.

        Args:
            split: Name of the split.
            record: Record of the split.
            rows: Rows of the whole report.

        Returns:
            Results on the split.
        """
        own = tuple(row for row in rows if row.split == split)
        models = {row.model.name: row.model for row in own}
        protocol = Protocol(**record["protocol"] | {"streaming": tuple(record["protocol"]["streaming"])})
        comparisons = tuple(
            Comparison(**each | {"model": models[each["model"]], "against": models[each["against"]]})
            for each in record["comparisons"]
        )
        seeds = tuple(SeedSpread(**each | {"values": tuple(each["values"])}) for each in record["seeds"])
        weekly = tuple(MetricRow.from_record(row) for row in record["weekly"])
        return cls(split, models[record["headline"]], protocol, own, comparisons, seeds, record["settings"], weekly)


@dataclass(frozen=True, repr=False)
class Report:
    """Content of report.json; prints as a table of all models for each split."""

    parts: tuple[SplitReport, ...]
    """Results on each split, the headline's first."""
    primary: str
    """Metric that models are sorted and compared by."""
    bootstrap_samples: int
    """Number of bootstrap draws of users behind each interval."""
    run: RunMetadata
    """Facts of the run."""

    def __repr__(self) -> str:
        tables = ([part.split, *format_table(part.to_table(self.primary))] for part in self.parts)
        return "\n\n".join("\n".join(lines) for lines in tables)

    def _repr_html_(self) -> str:
        """Render the tables for a notebook."""
        return "".join(format_html_table(part.to_table(self.primary), title=part.split) for part in self.parts)

    @property
    def rows(self) -> tuple[MetricRow, ...]:
        """All metrics, of every split."""
        return tuple(row for part in self.parts for row in part.rows)

    @property
    def comparisons(self) -> tuple[Comparison, ...]:
        """Comparisons of all splits."""
        return tuple(comparison for part in self.parts for comparison in part.comparisons)

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits."""
        return tuple(part.split for part in self.parts)

    def part(self, split: str) -> SplitReport:
        """Return the results on a split.

        Args:
            split: Name of the split.

        Returns:
            Results on it.
        """
        return next(part for part in self.parts if part.split == split)

    def to_record(self) -> dict[str, Any]:
        """Convert the report to the content of report.json.

        Returns:
            JSON-compatible record; empty facts of the run are left out.
        """
        run = {each.name: getattr(self.run, each.name) for each in fields(RunMetadata)}
        return {
            "schema": SCHEMA,
            "primary": self.primary,
            "bootstrap_samples": self.bootstrap_samples,
            "rows": [row.to_record() for row in self.rows],
            "splits": {part.split: part.to_record() for part in self.parts},
            "run": {name: value for name, value in run.items() if value not in (None, "", (), [], {})},
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Report:
        """Read the content of report.json.

        Args:
            record: Content of report.json.

        Returns:
            Report.

        Raises:
            ValueError: If it has another schema.
        """
        if record.get("schema") != SCHEMA:
            raise ValueError(f"schema {record.get('schema')}, and not {SCHEMA}")
        rows = [MetricRow.from_record(row) for row in record["rows"]]
        parts = tuple(SplitReport.from_record(split, part, rows) for split, part in record["splits"].items())
        return cls(parts, record["primary"], record["bootstrap_samples"], RunMetadata(**record["run"]))
