"""Comparison of a plan with the phases and memory in the report of a run."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace

from llmrec.errors import DataError
from llmrec.evaluation.model_rows import FROZEN, STUDENT, UNDISTILLED, ModelRow
from llmrec.evaluation.results import Report
from llmrec.planning.plan import GIB, Plan, StrategyPlan
from llmrec.planning.predict import Counted, PhaseEstimate
from llmrec.planning.strategies import PlannedStrategy
from llmrec.utils.timing import ALL

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
    if not report.run.phases:
        raise DataError(where, ["no times of phases. Give the report of a run that trained."])
    way = get_strategy(report)
    option = next((one for one in plan.options if one.way == way and not one.refused), None)
    if option is None:
        raise DataError(where, [f"strategy {way} of the run is not in the plan. Plan it too."])
    on_gpu = bool(option.gpu_phases) and "no GPU" not in report.run.machine
    spent, peak = _measure_phases(report, "wall" if on_gpu else "cpu")
    predicted = _predict_phases(plan, option, _get_counts(report), on_gpu=on_gpu)
    unit = "s, GPU" if on_gpu else "CPU s"
    own = {name: (predicted.get(name), spent[name]) for name in TRAINED_PHASES if name in spent}
    whole = sum(value or 0.0 for value, _ in own.values()), sum(value for _, value in own.values())
    lines = [PhaseComparison(name, unit, *values) for name, values in own.items()]
    lines.append(PhaseComparison("sum of these", unit, *whole))
    if "sasrec" in spent:
        lines.append(PhaseComparison("baselines on ids", unit, predicted.get("sasrec"), spent["sasrec"]))
    lines.append(
        PhaseComparison("everything else", unit, None, max(spent[ALL] - whole[1] - spent.get("sasrec", 0.0), 0.0))
    )
    lines.append(PhaseComparison("peak memory", "GiB", option.gpu_gib if on_gpu else option.peak_gib, peak / GIB))
    return lines


def get_strategy(report: Report) -> PlannedStrategy:
    """Return the strategy of a run by the models in its report.

    Args:
        report: Report of the run.

    Returns:
        Strategy that the run used.
    """
    models = _get_models(report).values()
    if STUDENT in models:
        return "distill"
    found = [row.strategy for row in models if row.kind == "llmrec" and row != FROZEN]
    return found[0] if found else "frozen"  # type: ignore[return-value]


def _get_models(report: Report) -> dict[str, ModelRow]:
    return {row.model.name: row.model for row in report.rows}


def _predict_phases(
    plan: Plan, option: StrategyPlan, counts: Mapping[tuple[str, Counted], float], *, on_gpu: bool
) -> dict[str, float]:
    """Sum predicted seconds by phase, with the run's own number of repetitions (`counts`) by split."""
    seconds: dict[str, float] = defaultdict(float)
    for phase in option.gpu_phases if on_gpu else option.phases:
        done: PhaseEstimate = replace(phase, times=counts.get((phase.split, phase.counted), phase.times))
        seconds["read" if phase.name in READ else phase.name] += (
            done.seconds(plan.machine.tflops) if on_gpu else done.total.cpu
        )
    return seconds


def _get_counts(report: Report) -> dict[tuple[str, Counted], float]:
    """Count the validations of each stage and the epochs of the refit, over all seeds."""
    counts: dict[tuple[str, Counted], float] = {}
    models = _get_models(report).values()
    first = UNDISTILLED if STUDENT in models else FROZEN
    adapted = [row for row in models if row.kind == "llmrec" and row != FROZEN]
    rows: dict[Counted, ModelRow] = {"fit": first}
    if adapted:
        rows["adapt"] = adapted[0]
    for part in report.parts:
        for stage, row in rows.items():
            seeds = part.settings.get(row.name, {}).get("seeds", {}).values()
            if seeds:
                counts[part.split, stage] = sum(len(seed["valid_ndcg"]) for seed in seeds)
            if seeds and stage == "fit":
                counts[part.split, "refit"] = sum(max(math.ceil(seed["best_epoch"]), 1) for seed in seeds)
    return counts


def _measure_phases(report: Report, clock: str) -> tuple[dict[str, float], float]:
    """Sum measured seconds by phase of a plan, and return the run's own peak memory in bytes."""
    spent: dict[str, float] = defaultdict(float)
    peak, models = 0.0, _get_models(report)
    for phase in report.run.phases:
        name, row = PHASES.get(phase["phase"], phase["phase"]), models.get(phase["of"])
        if name == ALL:
            spent[name] = phase[clock]
        elif row is not None and row.strategy in ("sasrec", "sasrec_sampled"):
            spent["sasrec"] += phase[clock]
        elif name in TRAINED_PHASES and (name == "read" or (row is not None and row.kind in ("llmrec", "student"))):
            spent[name] += phase[clock]
            peak = max(peak, phase["peak_mib"] * 2**20)
    return dict(spent), peak
