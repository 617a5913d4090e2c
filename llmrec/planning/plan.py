"""Plan of a run: measured and predicted costs of every strategy, and which one to use."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from llmrec.config.jobs.finetune import FinetuneConfig
from llmrec.data.loading import load_log
from llmrec.data.log import format_log_facts
from llmrec.errors import ConfigError, DataError, LlmrecError
from llmrec.planning.advisor import Choice, Facts, Option, ResourceLimits, choose_strategy
from llmrec.planning.measure import MIB, StrategyMeasurement, measure
from llmrec.planning.predict import Name, PhaseEstimate, predict_phases
from llmrec.planning.strategies import WAYS, PlannedStrategy, config_for_strategy
from llmrec.planning.workload import count_work

GIB = 2**30


@dataclass(frozen=True)
class MachineSpec:
    """Machine that a run is planned for."""

    gpus: int
    """Number of GPUs; 0 for the CPU of this machine."""
    tflops: float
    """Sustained rate of a GPU in TFLOP/s."""
    limits: ResourceLimits
    """Limits of time and memory."""


@dataclass(frozen=True)
class StrategyPlan:
    """Predicted run of a strategy."""

    way: PlannedStrategy
    """The strategy."""
    trains: int = 0
    """Number of weights that train."""
    phases: tuple[PhaseEstimate, ...] = ()
    """Phases on this machine, by one process."""
    gpu_phases: tuple[PhaseEstimate, ...] = ()
    """Phases of one of the processes on GPUs."""
    peak_gib: float = 0.0
    """Peak memory of one process in GiB."""
    gpu_gib: float = 0.0
    """Peak GPU memory of one process in GiB."""
    refused: str = ""
    """Reason why no such run is possible; empty if it is."""

    def phase_seconds(self, machine: MachineSpec, *, cpu: bool = False) -> dict[Name, float]:
        """Sum the predicted seconds of each phase.

        Args:
            machine: Machine that the run is planned for.
            cpu: Whether to return CPU seconds on this machine instead of elapsed seconds.

        Returns:
            Seconds by name of the phase.
        """
        by_name: dict[Name, float] = defaultdict(float)
        for phase in self.gpu_phases if machine.gpus and not cpu else self.phases:
            spent = phase.total.cpu if cpu else phase.seconds(machine.tflops if machine.gpus else None)
            by_name[phase.name] += spent
        return dict(by_name)

    def to_option(self, machine: MachineSpec) -> Option:
        """Convert to the time and memory that the choice needs.

        Args:
            machine: Machine that the run is planned for.

        Returns:
            The option.
        """
        seconds = self.phase_seconds(machine)
        busiest = max(seconds, key=lambda name: seconds[name], default="")
        gib = self.gpu_gib if machine.gpus else self.peak_gib
        return Option(self.way, sum(seconds.values()) / 3600, gib, busiest, self.refused)


@dataclass(frozen=True)
class Plan:
    """Plan of a run."""

    source: str
    """Facts about the log, as text."""
    facts: Facts
    """Facts that the choice depends on."""
    machine: MachineSpec
    """Machine that the run is planned for."""
    here: str
    """Description of the machine of the measurements."""
    options: tuple[StrategyPlan, ...]
    """Predicted run of each strategy."""
    choice: Choice
    """Chosen strategy and the reasons."""


def make_plan(
    config: FinetuneConfig,
    machine: MachineSpec,
    *,
    ways: Sequence[PlannedStrategy] = WAYS,
    n_steps: int = 4,
    alone: bool = True,
) -> Plan:
    """Measure strategies, predict their runs and choose one.

    Args:
        config: Settings of the run.
        machine: Machine that the run is planned for.
        ways: Strategies to measure.
        n_steps: Number of training steps to time.
        alone: Whether each strategy is measured in its own process, which its peak memory needs.

    Returns:
        The plan.

    Raises:
        ConfigError: If there is no strategy, a limit is not above 0, or training is private.
    """
    if config.privacy is not None:
        raise ConfigError("privacy: plans do not measure the steps of private training. Plan without privacy.")
    limits = (machine.limits.gib, machine.limits.hours)
    if (
        not ways
        or n_steps < 1
        or machine.gpus < 0
        or machine.tflops <= 0
        or any(limit is not None and limit <= 0 for limit in limits)
    ):
        raise ConfigError(
            f"strategies={list(ways)}, steps={n_steps}, gpus={machine.gpus}, tflops={machine.tflops}, memory and hours="
            f"{limits}: out of range. Give at least one strategy, one step and limits above 0."
        )
    log, causal = load_log(config.data), False
    planned: list[StrategyPlan] = []
    for strategy in tqdm(ways, desc="measuring", unit="strategy", disable=None, leave=False):
        try:
            work = [
                count_work(log, config_for_strategy(config, strategy), split)
                for split in config_for_strategy(config, strategy).split.names
            ]
            measured = _measure_strategy(config, strategy, n_steps, machine.gpus, alone=alone)
        except LlmrecError as error:
            planned.append(StrategyPlan(strategy, refused=str(error)))
            continue
        except BrokenProcessPool:
            planned.append(StrategyPlan(strategy, refused="its measurement ended the process, probably out of memory"))
            continue
        causal = causal or measured.causal
        planned.append(
            StrategyPlan(
                strategy,
                measured.trains,
                tuple(predict_phases(work, measured)),
                tuple(predict_phases(work, measured, share=machine.gpus)) if machine.gpus else (),
                measured.peak_mib * MIB / GIB,
                measured.gpu_bytes / GIB,
            )
        )
    options = tuple(_add_baseline_phases(planned))
    facts = Facts(log.facts.n_events, log.facts.n_items, causal)
    choice = choose_strategy([option.to_option(machine) for option in options], machine.limits, facts)
    here = f"{torch.get_num_threads()} thread(s) of this machine" + (
        " and its GPU" if torch.cuda.is_available() else ""
    )
    return Plan("\n".join(format_log_facts(log.facts)), facts, machine, here, options, choice)


def _measure_strategy(
    config: FinetuneConfig, strategy: PlannedStrategy, n_steps: int, gpus: int, *, alone: bool
) -> StrategyMeasurement:
    if not alone:
        return measure(config, strategy, n_steps, gpus)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(measure, config, strategy, n_steps, gpus).result()


def _add_baseline_phases(planned: Sequence[StrategyPlan]) -> list[StrategyPlan]:
    """Add the phases that were measured once: baselines on ids, and a student's teacher."""
    frozen = next((option for option in planned if option.way == "frozen" and not option.refused), None)
    if frozen is None:
        return list(planned)

    def get_baseline_phases(phases: Sequence[PhaseEstimate], strategy: PlannedStrategy) -> tuple[PhaseEstimate, ...]:
        rows = tuple(phase for phase in phases if phase.name == "sasrec")
        return rows if strategy != "distill" else tuple(replace(phase, name="teacher") for phase in phases)

    return [
        option
        if option.way == "frozen" or option.refused
        else replace(
            option,
            phases=option.phases + get_baseline_phases(frozen.phases, option.way),
            gpu_phases=option.gpu_phases + get_baseline_phases(frozen.gpu_phases, option.way),
        )
        for option in planned
    ]


def write_plan(plan: Plan, path: Path) -> None:
    """Write a plan to a JSON file.

    Args:
        plan: The plan.
        path: File to write.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(asdict(plan), indent=1) + "\n", encoding="utf-8")


def read_plan(path: Path) -> Plan:
    """Read a plan that `write_plan` has written.

    Args:
        path: File to read.

    Returns:
        The plan.

    Raises:
        DataError: If the file is not a plan.
    """
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        machine, choice = record["machine"], record["choice"]
        options = []
        for option in record["options"]:
            phases = {key: tuple(map(PhaseEstimate.from_record, option[key])) for key in ("phases", "gpu_phases")}
            options.append(StrategyPlan(**{**option, **phases}))
        return Plan(
            record["source"],
            Facts(**record["facts"]),
            MachineSpec(**{**machine, "limits": ResourceLimits(**machine["limits"])}),
            record["here"],
            tuple(options),
            Choice(choice["way"], tuple(choice["reasons"])),
        )
    except (OSError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise DataError(
            str(path), [f"not a plan ({error}). Give a file that `llmrec plan --output` has written."]
        ) from error
