"""Inputs of the command plan: limits, strategies and an earlier plan."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from llmrec.config.data import DataConfig
from llmrec.config.jobs.finetune import FinetuneConfig
from llmrec.config.loader import parse_config
from llmrec.errors import ConfigError
from llmrec.evaluation.results import Report
from llmrec.hub.training_log import override_data_config
from llmrec.planning.advisor import ResourceLimits
from llmrec.planning.plan import GIB, MachineSpec, Plan, make_plan, read_plan
from llmrec.planning.plan_vs_actual import get_strategy
from llmrec.planning.strategies import WAYS, PlannedStrategy

UNITS = {"MB": 10**6, "GB": 10**9, "TB": 10**12, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}


def make_or_read_plan(
    config: str,
    data: DataConfig | None,
    limits: tuple[int, str | None, float | None, float],
    steps: int,
    *,
    strategies: Sequence[str],
    made: Path | None,
    report: Report | None,
) -> Plan:
    """Make a plan, or read an earlier one.

    Args:
        config: YAML file or preset of recipes/finetune.py.
        data: Settings of the log that replace those of `config`; None to keep them.
        limits: GPUs, memory of each process, hours, and TFLOP/s.
        steps: Number of steps to measure.
        strategies: Names of the strategies to plan.
        made: Earlier plan to read; None to make one.
        report: Report of a run that the plan is for, which names its strategy.

    Returns:
        Plan.
    """
    if made is not None:
        return read_plan(made)
    gpus, memory, hours, tflops = limits
    ways = [parse_strategy(name) for name in strategies] or list(WAYS)
    if report is not None:
        ways = [parse_strategy(get_strategy(report))]
    machine = MachineSpec(gpus, tflops, ResourceLimits(None if memory is None else parse_memory_gib(memory), hours))
    return make_plan(load_recipe_config(config, data), machine, ways=ways, n_steps=steps)


def load_recipe_config(config: str, data: DataConfig | None) -> FinetuneConfig:
    """Load a configuration of recipes/finetune.py, and replace the settings of its log.

    Args:
        config: YAML file or preset.
        data: Settings of the log that replace those of `config`; None to keep them.

    Returns:
        Configuration.
    """
    settings = parse_config(FinetuneConfig, ["--config", config])
    return replace(settings, data=override_data_config(settings.data, data))


def parse_memory_gib(memory: str) -> float:
    """Parse an amount of memory.

    Args:
        memory: Number and unit, such as "24GB", "24GiB" or "512MiB".

    Returns:
        Memory in GiB.

    Raises:
        ConfigError: If it is not a number and a known unit.

    Example:
        >>> parse_memory_gib("24GiB"), parse_memory_gib("512 MiB")
        (24.0, 0.5)
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]+)\s*", memory)
    if found is None or found[2].upper() not in UNITS:
        raise ConfigError(f"memory={memory!r}: give a number and a unit, such as 24GB, 24GiB or 512MiB")
    return float(found[1]) * UNITS[found[2].upper()] / GIB


def parse_strategy(name: str) -> PlannedStrategy:
    """Parse the name of a strategy.

    Args:
        name: Name.

    Returns:
        Strategy of that name.

    Raises:
        ConfigError: If there is no such strategy.
    """
    for way in WAYS:
        if way == name:
            return way
    raise ConfigError(f"strategy {name!r}: give one of {', '.join(WAYS)}")
