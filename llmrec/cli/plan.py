"""The command plan: limits in words, strategies by name, a plan made before.

What is heavy is imported inside: the command line reads these signatures, types included, for every help.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from llmrec.config.data import DataConfig
from llmrec.errors import ConfigError

if TYPE_CHECKING:
    from llmrec.config.jobs.finetune import FinetuneConfig
    from llmrec.evaluation.results import Report
    from llmrec.planning.plan import Plan
    from llmrec.planning.strategies import PlannedStrategy

UNITS = {"MB": 10**6, "GB": 10**9, "TB": 10**12, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}


def plan(
    config: Path,
    data: DataConfig | None = None,
    gpus: int = 0,
    memory: str | None = None,
    hours: float | None = None,
    tflops: float = 10.0,
    steps: int = 4,
    strategies: list[str] | str | None = None,
    output: Path | None = None,
    from_plan: Path | None = None,
    report: Path | None = None,
) -> None:
    """Print what a run would take by each strategy, and which to use; with `report`, what it said beside what happened.

    Args:
        config: a YAML of recipes/finetune.py.
        data: the log, where the YAML does not say; settings that are not given are the YAML's.
        gpus: how many share each batch; 0: this machine's CPU. What they take is an estimate.
        memory: what one process may take, such as 24GB or 512MiB.
        hours: what a run may take.
        tflops: what one GPU is assumed to keep up, in TFLOP/s.
        steps: that are taken to measure one.
        strategies: some of frozen, last_k, lora, full, distil; default: all.
        output: where the plan is written, as JSON.
        from_plan: a plan that was written so, in place of a new one.
        report: the report.json of a run, to compare the plan with.
    """
    from llmrec.cli.inputs import as_list
    from llmrec.planning.plan import write_plan
    from llmrec.planning.plan_vs_actual import compare_with_run
    from llmrec.reports.plan_text import format_plan, format_plan_comparison
    from llmrec.reports.report_files import read_report

    happened = None if report is None else read_report(report)
    if happened is not None and from_plan is None:
        print(
            "note: the plan is made now; texts that the run has left in the cache are not read again. --from-plan "
            "takes one from before the run",
            file=sys.stderr,
        )
    found = make_or_read_plan(
        config, data, (gpus, memory, hours, tflops), steps, as_list(strategies), from_plan, happened
    )
    if output is not None:
        write_plan(found, output)
    lines = (
        format_plan(found)
        if happened is None
        else format_plan_comparison(compare_with_run(found, happened, str(report)))
    )
    print("\n".join(lines))


def make_or_read_plan(
    config: Path,
    data: DataConfig | None,
    limits: tuple[int, str | None, float | None, float],
    steps: int,
    strategies: Sequence[str],
    made: Path | None,
    report: Report | None,
) -> Plan:
    """A new plan, or the one of `made`. limits: GPUs, memory of each process, hours, TFLOP/s. report: of a run that the
    plan is for, and which says by which strategy.
    """
    from llmrec.planning.advisor import ResourceLimits
    from llmrec.planning.plan import MachineSpec, make_plan, read_plan
    from llmrec.planning.plan_vs_actual import way_of
    from llmrec.planning.strategies import WAYS

    if made is not None:
        return read_plan(made)
    gpus, memory, hours, tflops = limits
    ways = [parse_strategy(name) for name in strategies] or list(WAYS)
    if report is not None:
        ways = [parse_strategy(way_of(report.run["main"]))]
    machine = MachineSpec(gpus, tflops, ResourceLimits(None if memory is None else parse_memory_gib(memory), hours))
    return make_plan(load_recipe_config(config, data), machine, ways, steps)


def load_recipe_config(config: Path, data: DataConfig | None) -> FinetuneConfig:
    """A YAML of recipes/finetune.py, with what is given of its log in place of its settings."""
    from llmrec.config.jobs.finetune import FinetuneConfig
    from llmrec.config.loader import parse_config
    from llmrec.hub.training_log import override_data_config

    if not config.is_file():
        raise ConfigError(f"config={config}: no such file; give a YAML of recipes/finetune.py")
    settings = parse_config(FinetuneConfig, ["--config", str(config)])
    return replace(settings, data=override_data_config(settings.data, data))


def parse_memory_gib(memory: str) -> float:
    """
    >>> parse_memory_gib("24GiB"), parse_memory_gib("512 MiB")
    (24.0, 0.5)
    """
    from llmrec.planning.plan import GIB

    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]+)\s*", memory)
    if found is None or found[2].upper() not in UNITS:
        raise ConfigError(f"memory={memory!r}: give a number and a unit, such as 24GB, 24GiB or 512MiB")
    return float(found[1]) * UNITS[found[2].upper()] / GIB


def parse_strategy(name: str) -> PlannedStrategy:
    from llmrec.planning.strategies import WAYS

    for way in WAYS:
        if way == name:
            return way
    raise ConfigError(f"strategy {name!r}: give one of {', '.join(WAYS)}")
