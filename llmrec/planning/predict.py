"""From what was measured of the parts to the phases of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from llmrec.planning.cost import NOTHING, Cost
from llmrec.planning.measure import StrategyMeasurement
from llmrec.planning.workload import LoopCounts, Workload

Name = Literal["load", "read", "fit", "adapt", "rank", "teacher", "beside"]
Counted = Literal["", "fit", "refit", "adapt"]  # what a run can do fewer times than it may


@dataclass(frozen=True)
class PhaseEstimate:
    """A part of a run on one split: `fixed` and `each`, `times` over, at most where patience can end it.

    counted: what is done so often, by which a plan is compared with a run that stopped earlier.
    """

    name: Name
    split: str
    fixed: Cost = NOTHING
    each: Cost = NOTHING
    times: float = 0.0
    counted: Counted = ""

    @property
    def total(self) -> Cost:
        return self.fixed + self.each * self.times

    def seconds(self, tflops: float | None) -> float:
        """Here, or on a GPU, which does not load any faster."""
        if tflops is None or self.name == "load":
            return self.total.wall
        return self.total.gpu_seconds(tflops)

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> PhaseEstimate:
        costs = {key: Cost(**record[key]) for key in ("fixed", "each")}
        return cls(**{**record, **costs})


def predict_phases(work: Sequence[Workload], measured: StrategyMeasurement, share: int = 1) -> list[PhaseEstimate]:
    """Of a whole run. share: processes that share batches, queries and the reading of the catalog; a step's flops and
    calls are those of one of them already.
    """
    first = work[0].split
    phases = [PhaseEstimate("load", first, measured.load), PhaseEstimate("read", first, measured.read * (1 / share))]
    if measured.lower != NOTHING:  # once, whatever the splits and seeds
        phases.append(PhaseEstimate("adapt", first, measured.lower))
    for part in work:
        phases += _fit(part, measured, share)
        if measured.adapt is not None:
            phases += _adapt(part, measured, share)
        phases += _predict_baselines(part, measured, share)
    return phases


def _fit(work: Workload, measured: StrategyMeasurement, share: int) -> list[PhaseEstimate]:
    """The first stage, on stored vectors, and its ranking."""
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
    """The second stage, through the backbone, and its ranking; of a student also its teacher's."""
    seeds, loop, stage = work.seeds, work.adapt, measured.adapt
    if stage is None:
        return []
    n_valid, n_test = work.n_valid / share, work.n_test / share
    renew, check, set_up, rows = measured.renew * (1 / share), measured.matched(n_valid), NOTHING, 1
    if measured.way == "distil":
        set_up, rows = measured.read * (1 / share), 2  # its catalog is read anew, without a cache
    else:
        set_up, check = measured.calibrate(n_valid), check + measured.calibrate(n_valid)
    each = stage.step * _count_steps_between(loop) + check + renew + stage.checkpoint
    each += renew * (loop.renewals / max(loop.measurements, 1))
    fixed = check + renew + set_up
    phases = [
        PhaseEstimate("adapt", work.split, fixed * seeds, each, loop.measurements * loop.epochs * seeds, "adapt"),
        PhaseEstimate("rank", work.split, measured.rank(n_test) * (rows * seeds)),
    ]
    if measured.way != "distil":
        phases.append(PhaseEstimate("load", work.split, measured.load * seeds))
    return phases


def _predict_baselines(work: Workload, measured: StrategyMeasurement, share: int) -> list[PhaseEstimate]:
    """Rows on ids alone, which are ranked without texts."""
    n_valid, n_test = work.n_valid / share, work.n_test / share
    return [
        PhaseEstimate(
            "beside",
            work.split,
            (measured.ndcg(n_test) + (stage.step * loop.steps + measured.ndcg(n_valid)) * loop.epochs) * work.seeds,
        )
        for loop, stage in zip(work.beside, measured.beside, strict=False)
    ]


def _count_steps_between(loop: LoopCounts) -> float:
    return loop.steps / max(loop.measurements, 1)


def sum_phases(phases: Sequence[PhaseEstimate]) -> Cost:
    return sum((phase.total for phase in phases), NOTHING)
