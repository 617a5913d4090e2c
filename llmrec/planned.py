"""What `llmrec plan` was asked for: limits in words, strategies by name, a plan made before."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from llmrec.asked import log_config
from llmrec.config.data import DataConfig
from llmrec.config.jobs.finetune import FinetuneConfig
from llmrec.config.loader import parse_config
from llmrec.errors import ConfigError
from llmrec.evaluation.results import Report
from llmrec.planning.advisor import Limits
from llmrec.planning.plan import GIB, Machine, Plan, make_plan, read_plan
from llmrec.planning.plan_vs_actual import way_of
from llmrec.planning.strategies import WAYS, Way

UNITS = {"MB": 10**6, "GB": 10**9, "TB": 10**12, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}


def planned(
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
    if made is not None:
        return read_plan(made)
    gpus, memory, hours, tflops = limits
    ways = [way_named(name) for name in strategies] or list(WAYS)
    if report is not None:
        ways = [way_named(way_of(report.run["main"]))]
    machine = Machine(gpus, tflops, Limits(None if memory is None else gib_of(memory), hours))
    return make_plan(recipe_of(config, data), machine, ways, steps)


def recipe_of(config: Path, data: DataConfig | None) -> FinetuneConfig:
    """A YAML of recipes/finetune.py, with what is given of its log in place of its settings."""
    if not config.is_file():
        raise ConfigError(f"config={config}: no such file; give a YAML of recipes/finetune.py")
    settings = parse_config(FinetuneConfig, ["--config", str(config)])
    return replace(settings, data=log_config(settings.data, data))


def gib_of(memory: str) -> float:
    """
    >>> gib_of("24GiB"), gib_of("512 MiB")
    (24.0, 0.5)
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]+)\s*", memory)
    if found is None or found[2].upper() not in UNITS:
        raise ConfigError(f"memory={memory!r}: give a number and a unit, such as 24GB, 24GiB or 512MiB")
    return float(found[1]) * UNITS[found[2].upper()] / GIB


def way_named(name: str) -> Way:
    for way in WAYS:
        if way == name:
            return way
    raise ConfigError(f"strategy {name!r}: give one of {', '.join(WAYS)}")
