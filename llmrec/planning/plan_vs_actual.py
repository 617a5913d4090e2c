"""What a plan said beside what happened, from the report of the run."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from llmrec.errors import DataError
from llmrec.evaluation.results import Report
from llmrec.planning.plan import GIB, Plan, StrategyPlan
from llmrec.planning.predict import Counted, PhaseEstimate
from llmrec.planning.strategies import PlannedStrategy
from llmrec.utils.timing import ALL

STUDENT = ("teacher", "untaught", "student")  # rows of recipes/distill.py
OWN = ("read", "fit", "adapt", "rank")
AS = {"load": "read"}  # loading is a part of what runs record as reading, and a phase by itself later on


@dataclass(frozen=True)
class PhaseComparison:
    """One line: seconds, or GiB. predicted: None where the plan says nothing of it."""

    what: str
    unit: str
    predicted: float | None
    happened: float

    @property
    def ratio(self) -> float | None:
        return self.predicted / self.happened if self.predicted is not None and self.happened > 0 else None


def compare_with_run(plan: Plan, report: Report, where: str) -> list[PhaseComparison]:
    """Phases of the run's own rows, for as many measurements as it made before it stopped; the rest; peak memory.

    where: the report is, for errors.

    Raises:
        DataError: a report without phases, or of a strategy that the plan does not have.
    """
    run = report.run
    if "phases" not in run:
        raise DataError(where, ["it does not tell what its phases took; it was written before runs recorded that"])
    way = way_of(run["main"])
    option = next((one for one in plan.options if one.way == way and not one.refused), None)
    if option is None:
        raise DataError(where, [f"its run is by {way}, which the plan does not have"])
    on_gpu = bool(option.gpu_phases) and "no GPU" not in run["machine"]
    spent, peak = _measured(run, "wall" if on_gpu else "cpu")
    predicted = _predict_phases(plan, option, _get_counts(run), on_gpu)
    unit = "s, GPU" if on_gpu else "CPU s"
    own = {name: (predicted.get(name), spent[name]) for name in OWN if name in spent}
    whole = sum(value or 0.0 for value, _ in own.values()), sum(value for _, value in own.values())
    lines = [PhaseComparison(name, unit, *values) for name, values in own.items()]
    lines.append(PhaseComparison("these together", unit, *whole))
    if "beside" in spent:
        lines.append(PhaseComparison("rows on ids alone", unit, predicted.get("beside"), spent["beside"]))
    lines.append(
        PhaseComparison("everything else", unit, None, max(spent[ALL] - whole[1] - spent.get("beside", 0.0), 0.0))
    )
    lines.append(PhaseComparison("peak memory", "GiB", option.gpu_gib if on_gpu else option.peak_gib, peak / GIB))
    return lines


def way_of(main: str) -> PlannedStrategy:
    """The strategy of a report's main row."""
    found: PlannedStrategy = "distil" if main == "student" else main.removeprefix("llmrec ")  # type: ignore[assignment]
    return found


def _predict_phases(
    plan: Plan, option: StrategyPlan, counts: Mapping[tuple[str, Counted], float], on_gpu: bool
) -> dict[str, float]:
    """Seconds by name of phase. counts: how often the run did what it could have done more often, by split."""
    seconds: dict[str, float] = defaultdict(float)
    for phase in option.gpu_phases if on_gpu else option.phases:
        done: PhaseEstimate = replace(phase, times=counts.get((phase.split, phase.counted), phase.times))
        seconds[AS.get(phase.name, phase.name)] += done.seconds(plan.machine.tflops) if on_gpu else done.total.cpu
    return seconds


def _get_counts(run: Mapping[str, Any]) -> dict[tuple[str, Counted], float]:
    """Measurements of each stage and epochs of the refit, over all seeds."""
    counts: dict[tuple[str, Counted], float] = {}
    first, main = "untaught" if run["main"] == "student" else "llmrec frozen", run["main"]
    for split, settings in run["settings"].items():
        rows: dict[Counted, str] = {"fit": first, "adapt": main} if main != first else {"fit": first}
        for stage, row in rows.items():
            seeds = settings.get(row, {}).get("seeds", {}).values()
            if seeds:
                counts[split, stage] = sum(len(seed["valid_ndcg"]) for seed in seeds)
            if seeds and stage == "fit":
                counts[split, "refit"] = sum(max(math.ceil(seed["best_epoch"]), 1) for seed in seeds)
    return counts


def _measured(run: Mapping[str, Any], clock: str) -> tuple[dict[str, float], float]:
    """Seconds by name of phase as plans have them, and bytes at the end of the last of the run's own."""
    spent: dict[str, float] = defaultdict(float)
    peak = 0.0
    for phase in run["phases"]:
        name, _, row = phase["phase"].partition(" ")
        name = AS.get(name, name)
        own = not row or row in STUDENT or row.startswith("llmrec ")
        if own and name in OWN:
            spent[name] += phase[clock]
            peak = max(peak, phase["peak_mib"] * 2**20)
        elif row in ("sasrec", "sasrec_sampled"):
            spent["beside"] += phase[clock]
        elif name == ALL:
            spent[name] = phase[clock]
    return dict(spent), peak
