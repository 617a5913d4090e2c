"""Results of an evaluation: numbers, comparisons, and the rules they depend on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

from llmrec.data.interactions import Ties
from llmrec.evaluation.model_rows import ModelRow

SCHEMA = 2  # of report.json; a reader refuses others
Verdict = Literal["better", "worse", "no clear difference"]


@dataclass(frozen=True, slots=True)
class MetricRow:
    """One number of the report, over n queries.

    low, high: the 95% interval; None where there is none (coverage, a single user).
    """

    model: ModelRow
    split: str
    slice: str
    metric: str
    value: float
    low: float | None
    high: float | None
    n: int

    def to_record(self) -> dict[str, Any]:
        """Return the row as report.json has it, with the fields of its model."""
        own = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "model"}
        return self.model.to_record() | own

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> MetricRow:
        """Read a row of report.json."""
        own = [record[each.name] for each in fields(cls) if each.name != "model"]
        return cls(ModelRow.from_record(record), *own)


@dataclass(frozen=True, slots=True)
class Comparison:
    """model - against on the same n queries: difference with its 95% interval and two-sided p."""

    model: ModelRow
    against: ModelRow
    split: str
    slice: str
    metric: str
    difference: float
    low: float | None
    high: float | None
    p: float | None
    n: int

    @property
    def verdict(self) -> Verdict:
        """Side of zero on which the whole interval lies, if it lies on one."""
        if self.low is not None and self.low > 0:
            return "better"
        if self.high is not None and self.high < 0:
            return "worse"
        return "no clear difference"

    def to_record(self) -> dict[str, Any]:
        """Return the comparison as report.json has it, models by their names."""
        own = {each.name: getattr(self, each.name) for each in fields(self)}
        return own | {"model": self.model.name, "against": self.against.name}


@dataclass(frozen=True, slots=True)
class SeedSpread:
    """One metric of a model that was trained with several seeds: each seed's mean, and their spread."""

    model: str
    split: str
    metric: str
    values: tuple[float, ...]
    std: float


@dataclass(frozen=True, slots=True)
class Protocol:
    """The rules that the numbers of a split depend on.

    streaming: names of the models whose counts are updated during the test; the others are static. first_days: of the
    test, that are looked at; None: all. candidates: what a target is ranked among, where that is not the whole catalog.
    """

    n_items: int
    ties: Ties
    query_time: Literal["known", "last_event"]
    mask_seen: bool
    fitted_on: Literal["train", "train+validation"] = "train"
    release_dates: bool = False
    streaming: tuple[str, ...] = ()
    first_days: int | None = None
    candidates: str | None = None


@dataclass(frozen=True)
class SplitReport:
    """All results on one split.

    headline: the model that the bundle answers with, if the split is the first one. seeds: the spread of every model
    that was fitted more than once. settings: by name of the model. weekly: the primary metric by week after the cutoff,
    the slice being the number of the week from 1 on.
    """

    split: str
    headline: ModelRow
    protocol: Protocol
    rows: tuple[MetricRow, ...]
    comparisons: tuple[Comparison, ...]
    seeds: tuple[SeedSpread, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    weekly: tuple[MetricRow, ...] = ()

    def to_record(self) -> dict[str, Any]:
        """Return what report.json holds of the split besides its rows."""
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
        """Read a split of report.json. rows: those of the whole report."""
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


@dataclass(frozen=True, kw_only=True)
class RunMetadata:
    """Where the numbers of a report come from; empty fields do not apply to the run.

    phases: of `Timer.to_record`. data, sources: facts of logs. seeds: by split. adaptation: by split, why the adapted
    backbone was kept or not. drift, explanations, privacy, membership: records of the objects of that name. transfer,
    distillation: the result in a sentence. share: of the target's users that trained. bundle: name of an evaluated one.
    note: a warning about its test. first_stage, targets_among_candidates, cpu_seconds_per_query: of re-ranking.
    """

    command: str = ""
    commit: str = ""
    machine: str = ""
    processes: int = 1
    threads: int = 1
    precision: str = "no"
    reproducible_products: bool = False
    versions: Mapping[str, str] = field(default_factory=dict)
    minutes: float = 0.0
    phases: Sequence[Mapping[str, Any]] = ()
    data: Mapping[str, Any] = field(default_factory=dict)
    seeds: Mapping[str, Sequence[int]] = field(default_factory=dict)
    adaptation: Mapping[str, str] = field(default_factory=dict)
    drift: Mapping[str, Any] | None = None
    explanations: Sequence[Mapping[str, Any]] = ()
    privacy: Mapping[str, Any] | None = None
    membership: Sequence[Mapping[str, Any]] = ()
    transfer: str = ""
    sources: Sequence[Mapping[str, Any]] = ()
    share: float | None = None
    distillation: str = ""
    bundle: str = ""
    note: str = ""
    first_stage: str = ""
    targets_among_candidates: float | None = None
    cpu_seconds_per_query: float | None = None


@dataclass(frozen=True)
class Report:
    """All that report.json holds. primary: the metric that models are sorted and compared by."""

    parts: tuple[SplitReport, ...]
    primary: str
    bootstrap_samples: int
    run: RunMetadata

    @property
    def rows(self) -> tuple[MetricRow, ...]:
        return tuple(row for part in self.parts for row in part.rows)

    @property
    def comparisons(self) -> tuple[Comparison, ...]:
        return tuple(comparison for part in self.parts for comparison in part.comparisons)

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(part.split for part in self.parts)

    def part(self, split: str) -> SplitReport:
        """Return the results on a split."""
        return next(part for part in self.parts if part.split == split)

    def to_record(self) -> dict[str, Any]:
        """Return the content of report.json."""
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

        Raises:
            ValueError: If it has another schema.
        """
        if record.get("schema") != SCHEMA:
            raise ValueError(f"schema {record.get('schema')}, and not {SCHEMA}")
        rows = [MetricRow.from_record(row) for row in record["rows"]]
        parts = tuple(SplitReport.from_record(split, part, rows) for split, part in record["splits"].items())
        return cls(parts, record["primary"], record["bootstrap_samples"], RunMetadata(**record["run"]))
