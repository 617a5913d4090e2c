"""How true a plan is: each strategy planned, then run, and what was said beside what happened.

    OMP_NUM_THREADS=1 python scripts/bench/plan.py --strategies frozen last_k lora [--steps 4] [--json PATH]
        --config recipes/finetune/quickstart.yaml [--train.epochs 2 ...]

What follows is those of recipes/finetune.py, which is run in a process of its own, with a cache of
its own that is empty before each plan, so that reading is a part of both. CPU seconds; memory in GiB.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from machine import describe, write_record

from llmrec.config.jobs.finetune import FinetuneConfig
from llmrec.config.loader import parse_config
from llmrec.planning.advisor import ResourceLimits
from llmrec.planning.cost import TFLOPS
from llmrec.planning.plan import MachineSpec, make_plan
from llmrec.planning.plan_vs_actual import compare_with_run
from llmrec.planning.strategies import PlannedStrategy
from llmrec.reports.report_files import read_report
from llmrec.training.task import sasrec_train_configs
from llmrec.utils.text import format_table

RECIPE = Path(__file__).resolve().parents[2] / "recipes" / "finetune.py"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--strategies", nargs="+", default=["frozen", "last_k", "lora"])
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--json", type=Path)
    asked, recipe = parser.parse_known_args()
    rows: list[dict[str, Any]] = []
    head = ["strategy", "", "unit", "predicted", "happened", "ratio"]
    for way in asked.strategies:
        rows += measure(way, asked.steps, recipe)
        body = [[*(row[key] for key in ("strategy", "what", "unit")),
                 *(_told(row[key]) for key in ("predicted", "happened", "ratio"))] for row in rows]  # fmt: skip
        print("\n".join(format_table([head, *body])), flush=True)
        write_record(asked.json, rows, describe())


def measure(way: PlannedStrategy, n_steps: int, recipe: list[str]) -> list[dict[str, Any]]:
    with TemporaryDirectory() as folder:
        os.environ["LLMREC_CACHE"] = f"{folder}/cache"
        given = [*recipe, "--backbone.strategy", way, "--output", f"{folder}/run"]
        config = replace(parse_config(FinetuneConfig, given), output=Path(folder, "run"))
        ways: tuple[PlannedStrategy, ...] = (way,)
        if way != "frozen" and sasrec_train_configs(config):
            ways = ("frozen", way)  # rows beside are measured with it
        plan = make_plan(config, MachineSpec(0, TFLOPS, ResourceLimits()), ways=ways, n_steps=n_steps)
        subprocess.run([sys.executable, str(RECIPE), *given], check=True, stdout=subprocess.DEVNULL)
        report = Path(folder, "run", "report.json")
        lines = compare_with_run(plan, read_report(report), str(report))
    return [
        {"strategy": way, "what": line.what, "unit": line.unit, "predicted": line.predicted, "happened": line.measured}
        | {"ratio": line.ratio}
        for line in lines
    ]


def _told(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


if __name__ == "__main__":
    main()
