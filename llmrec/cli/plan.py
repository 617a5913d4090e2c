"""The command plan.

What is heavy is imported inside: the command line reads these signatures, types included, for every help.
"""

from __future__ import annotations

import sys
from pathlib import Path

from llmrec.config.data import DataConfig


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
    from llmrec.cli.plan_inputs import make_or_read_plan
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
