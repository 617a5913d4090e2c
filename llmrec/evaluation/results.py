"""What an evaluation finds: numbers, comparisons, and the rules they depend on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from llmrec.data.interactions import Ties


@dataclass(frozen=True, slots=True)
class MetricRow:
    """One number of the report, over n queries.

    low, high: the 95% interval; None where there is none (coverage, a single user).
    """

    model: str
    split: str
    slice: str
    metric: str
    value: float
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """model - against on the same n queries: difference with its 95% interval and two-sided p."""

    model: str
    against: str
    split: str
    slice: str
    metric: str
    difference: float
    low: float | None
    high: float | None
    p: float | None
    n: int

    @property
    def verdict(self) -> Literal["better", "worse", "no clear difference"]:
        """Whether the whole interval lies on one side of zero."""
        if self.low is not None and self.low > 0:
            return "better"
        if self.high is not None and self.high < 0:
            return "worse"
        return "no clear difference"


@dataclass(frozen=True, slots=True)
class Protocol:
    """The rules that the numbers of a split depend on.

    streaming: models that go on counting everyone's events during the test; the others stand still. first_days: of the
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
    """All that is known of one split. seeds: the spread of every model that was fitted more than once."""

    split: str
    protocol: Protocol
    rows: tuple[MetricRow, ...]
    comparisons: tuple[Comparison, ...]
    seeds: tuple[dict[str, Any], ...]
    settings: dict[str, Any]


@dataclass(frozen=True)
class Report:
    """What `report.json` holds.

    rows: every number. run: `main`, `primary`, `protocol` and `settings` by split, `comparisons`, `seeds`, and the
    metadata of the run.
    """

    rows: tuple[MetricRow, ...]
    run: dict[str, Any]

    @property
    def comparisons(self) -> tuple[Comparison, ...]:
        return tuple(Comparison(**fields) for fields in self.run["comparisons"])

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(self.run["protocol"])
