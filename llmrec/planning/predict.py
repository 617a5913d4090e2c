"""Prediction of the phases of a run from the measured parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from llmrec.planning.cost import NOTHING, Cost
from llmrec.planning.measure import StrategyMeasurement
from llmrec.planning.workload import LoopCounts, Workload

Name = Literal["load", "read", "fit", "adapt", "rank", "teacher", "sasrec"]
Counted = Literal["", "fit", "refit", "adapt"]  # parts that early stopping can shorten


@dataclass(frozen=True)
class PhaseEstimate:
    """Predicted part of a run on one split: `fixed` plus `times` times `each`, at most."""

    name: Name
    """Name of the phase."""
    split: str
    """Name of the split."""
    fixed: Cost = NOTHING
    """Cost that does not depend on `times`."""
    each: Cost = NOTHING
    """Cost of each repetition."""
    times: float = 0.0
    """Number of repetitions, which early stopping can lower."""
    counted: Counted = ""
    """Kind of the repetitions, to compare a plan with a run that stopped earlier."""

    @property
    def total(self) -> Cost:
        """Total cost."""
        return self.fixed + self.each * self.times

    def seconds(self, tflops: float | None) -> float:
        """Predict the elapsed seconds on this machine or on a GPU, which does not load any faster.

        Args:
            tflops: Sustained rate of the GPU in TFLOP/s; None for this machine.

        Returns:
            Seconds.
        """
        if tflops is None or self.name == "load":
            return self.total.wall
        return self.total.gpu_seconds(tflops)

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> PhaseEstimate:
        """Read an estimate from the record of a plan.

        Args:
            record: Fields by name.

        Returns:
            The estimate.
        """
        costs = {key: Cost(**record[key]) for key in ("fixed", "each")}
        return cls(**{**record, **costs})


def predict_phases(work: Sequence[Workload], measured: StrategyMeasurement, *, share: int = 1) -> list[PhaseEstimate]:
    """Predict the phases of a whole run.

    Args:
        work: Workload of each split.
        measured: Measured parts of the strategy.
        share: Number of processes that share batches, queries and the encoding of the catalog; the operations of a step
            are those of one process already.

    Returns:
        The phases.
    """
    first, read = work[0].split, measured.read * (1 / share)
    if measured.lower != NOTHING and measured.way != "distill":  # once for all splits and seeds; texts are read from it
        upper = min(measured.read, measured.renew, key=lambda cost: cost.wall) * (1 / share)
        read = measured.load + measured.lower + upper
    phases = [PhaseEstimate("load", first, measured.load), PhaseEstimate("read", first, read)]
    if measured.lower != NOTHING and measured.way == "distill":
        phases.append(PhaseEstimate("adapt", first, measured.lower))
    for part in work:
        phases += _fit(part, measured, share)
        if measured.adapt is not None:
            phases += _adapt(part, measured, share)
        phases += _predict_baselines(part, measured, share)
    return phases


def _fit(work: Workload, measured: StrategyMeasurement, share: int) -> list[PhaseEstimate]:
    """Predict the first stage, on stored vectors, and its ranking."""
    seeds, loop, stage = work.seeds, work.fit, measured.fit
    n_valid, n_test = work.n_valid / share, work.n_test / share
    measurement = measured.ndcg(n_valid) + stage.checkpoint
    each = stage.step * _count_steps_between(loop) + measurement
    phases = [
        PhaseEstimate(
            "fit", work.split, measured.calibrate(n_valid) * seeds, each, loop.measurements * loop.epochs * seeds, "fit"
        ),
        PhaseEstimate("rank", work.split, measured.rank(n_test) * seeds),
    ]
    if work.refit is not None:
        epoch = stage.step * work.refit.steps + stage.checkpoint * work.refit.measurements
        phases.append(PhaseEstimate("fit", work.split, each=epoch, times=work.refit.epochs * seeds, counted="refit"))
    return phases


def _adapt(work: Workload, measured: StrategyMeasurement, share: int) -> list[PhaseEstimate]:
    """Predict the second stage, through the backbone, and its ranking; for a student also its teacher's."""
    seeds, loop, stage = work.seeds, work.adapt, measured.adapt
    if stage is None:
        return []
    if work.by_items:
        each = stage.step * _count_steps_between(loop) + measured.renew * (1 / share) + stage.checkpoint
        adapt = PhaseEstimate("adapt", work.split, NOTHING, each, loop.measurements * seeds, "adapt")
        load = PhaseEstimate("load", work.split, measured.load * seeds)
        return [adapt, load, *_fit(work, measured, share)]
    n_valid, n_test = work.n_valid / share, work.n_test / share
    renew, check, rows = measured.renew * (1 / share), measured.matched(n_valid), 1
    if measured.way == "distill":
        set_up, rows = check + measured.read * (1 / share), 2  # its catalog is encoded again, without a cache
    else:
        set_up, check = measured.calibrate(n_valid), check + measured.calibrate(n_valid)
    each = stage.step * _count_steps_between(loop) + check + renew + stage.checkpoint
    each += renew * (loop.renewals / max(loop.measurements, 1))
    fixed = renew + set_up
    phases = [
        PhaseEstimate("adapt", work.split, fixed * seeds, each, loop.measurements * loop.epochs * seeds, "adapt"),
        PhaseEstimate("rank", work.split, measured.rank(n_test) * (rows * seeds)),
    ]
    if measured.way != "distill":
        phases.append(PhaseEstimate("load", work.split, measured.load * seeds))
    return phases


def _predict_baselines(work: Workload, measured: StrategyMeasurement, share: int) -> list[PhaseEstimate]:
    """Predict the baselines on ids only, which are ranked without texts."""
    n_valid, n_test = work.n_valid / share, work.n_test / share
    return [
        PhaseEstimate(
            "sasrec",
            work.split,
            (measured.ndcg(n_test) + (stage.step * loop.steps + measured.ndcg(n_valid)) * loop.epochs) * work.seeds,
        )
        for loop, stage in zip(work.sasrec, measured.sasrec, strict=False)
    ]


def _count_steps_between(loop: LoopCounts) -> float:
    return loop.steps / max(loop.measurements, 1)


def sum_phases(phases: Sequence[PhaseEstimate]) -> Cost:
    """Add up the total costs of phases.

    Args:
        phases: The phases.

    Returns:
        Sum of the costs.
    """
    return sum((phase.total for phase in phases), NOTHING)
