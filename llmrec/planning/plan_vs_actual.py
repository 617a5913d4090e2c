"""Comparison of a plan with the phases and memory in the report of a run."""

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
TRAINED_PHASES = ("read", "fit", "adapt", "rank")
PHASES = {"evaluate": "rank"}  # sections of a run by another name than the plan's
READ = ("load", "read")  # loading is a part of what runs record as reading


@dataclass(frozen=True)
class PhaseComparison:
    """Predicted and measured value of one phase, or of memory."""

    what: str
    """Name of the phase."""
    unit: str
    """Unit of both values."""
    predicted: float | None
    """Predicted value; None if the plan has none."""
    measured: float
    """Measured value."""

    @property
    def ratio(self) -> float | None:
        """Predicted value as a multiple of the measured one; None without both."""
        return self.predicted / self.measured if self.predicted is not None and self.measured > 0 else None


def compare_with_run(plan: Plan, report: Report, where: str) -> list[PhaseComparison]:
    """Compare a plan with a run: its own phases, the remaining time and the peak memory.

    Own phases are predicted for as many validations as the run made before it stopped.

    Args:
        plan: The plan.
        report: Report of the run.
        where: Path of the report, for error messages.

    Returns:
        One comparison for each line of the table.

    Raises:
        DataError: If the report has no phases, or the plan does not have its strategy.
    """
    run = report.run
    if "phases" not in run:
        raise DataError(where, ["no times of phases. Give a report of a newer run."])
    way = way_of(run["main"])
    option = next((one for one in plan.options if one.way == way and not one.refused), None)
    if option is None:
        raise DataError(where, [f"strategy {way} of the run is not in the plan. Plan it too."])
    on_gpu = bool(option.gpu_phases) and "no GPU" not in run["machine"]
    spent, peak = _measured(run, "wall" if on_gpu else "cpu")
    predicted = _predict_phases(plan, option, _get_counts(run), on_gpu)
    unit = "s, GPU" if on_gpu else "CPU s"
    own = {name: (predicted.get(name), spent[name]) for name in TRAINED_PHASES if name in spent}
    whole = sum(value or 0.0 for value, _ in own.values()), sum(value for _, value in own.values())
    lines = [PhaseComparison(name, unit, *values) for name, values in own.items()]
    lines.append(PhaseComparison("sum of these", unit, *whole))
    if "beside" in spent:
        lines.append(PhaseComparison("baselines on ids", unit, predicted.get("beside"), spent["beside"]))
    lines.append(
        PhaseComparison("everything else", unit, None, max(spent[ALL] - whole[1] - spent.get("beside", 0.0), 0.0))
    )
    lines.append(PhaseComparison("peak memory", "GiB", option.gpu_gib if on_gpu else option.peak_gib, peak / GIB))
    return lines


def way_of(main: str) -> PlannedStrategy:
    """Return the strategy of a report's main row.

    Args:
        main: Name of the row.

    Returns:
        The strategy.
    """
    found: PlannedStrategy = "distil" if main == "student" else main.removeprefix("llmrec ")  # type: ignore[assignment]
    return found


def _predict_phases(
    plan: Plan, option: StrategyPlan, counts: Mapping[tuple[str, Counted], float], on_gpu: bool
) -> dict[str, float]:
    """Sum predicted seconds by phase, with the run's own number of repetitions (`counts`) by split."""
    seconds: dict[str, float] = defaultdict(float)
    for phase in option.gpu_phases if on_gpu else option.phases:
        done: PhaseEstimate = replace(phase, times=counts.get((phase.split, phase.counted), phase.times))
        seconds["read" if phase.name in READ else phase.name] += (
            done.seconds(plan.machine.tflops) if on_gpu else done.total.cpu
        )
    return seconds


def _get_counts(run: Mapping[str, Any]) -> dict[tuple[str, Counted], float]:
    """Count the validations of each stage and the epochs of the refit, over all seeds."""
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
    """Sum measured seconds by phase of a plan, and return the run's own peak memory in bytes."""
    spent: dict[str, float] = defaultdict(float)
    peak = 0.0
    for phase in run["phases"]:
        name, row = PHASES.get(phase["phase"], phase["phase"]), phase["of"]
        own = row is None or row in STUDENT or row.startswith("llmrec ")
        if own and name in TRAINED_PHASES and (name, row) != ("rank", None):
            spent[name] += phase[clock]
            peak = max(peak, phase["peak_mib"] * 2**20)
        elif row in ("sasrec", "sasrec_sampled"):
            spent["beside"] += phase[clock]
        elif name == ALL:
            spent[name] = phase[clock]
    return dict(spent), peak
