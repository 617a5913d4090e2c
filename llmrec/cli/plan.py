"""The command plan: limits in words, strategies by name. Heavy imports wait inside the function."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from llmrec.cli.options import JsonOption, SettingsCommand

app = typer.Typer()
PLAN_SETTINGS = "Settings of the log follow as --data.KEY VALUE; those that are not given are the file's."


@app.command(cls=SettingsCommand, epilog=PLAN_SETTINGS)
def plan(
    context: typer.Context,
    config: Annotated[str, typer.Option(metavar="PRESET_OR_FILE", help="Preset or YAML file, as for `llmrec train`.")],
    *,
    gpus: Annotated[
        int, typer.Option(metavar="N", help="GPUs that share each batch, by estimate; 0 for this machine's CPU.")
    ] = 0,
    max_memory: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="Memory of one process, such as 24GB or 512MiB. [default: no limit]"),
    ] = None,
    max_hours: Annotated[
        float | None, typer.Option(metavar="HOURS", help="Hours that a run may take. [default: no limit]")
    ] = None,
    tflops: Annotated[float, typer.Option(metavar="N", help="TFLOP/s that one GPU is assumed to sustain.")] = 10.0,
    measured_steps: Annotated[
        int, typer.Option(metavar="N", help="Training steps that are measured for each strategy.")
    ] = 4,
    strategy: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="frozen, last_k, lora, full or distill; repeat for several. [default: all]"),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where to write the plan as JSON. [default: nowhere]")
    ] = None,
    plan_file: Annotated[
        Path | None,
        typer.Option("--plan", metavar="FILE", help="Plan that --output wrote, in place of a new one. [default: none]"),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="report.json of a run to compare the plan with. [default: none]"),
    ] = None,
    json_output: JsonOption = False,
) -> None:
    """Predict time and memory of a run by each strategy.

    Says which strategy to use. With --report, compare the plan with what the run took.
    """
    from llmrec.cli.plan_inputs import make_or_read_plan
    from llmrec.cli.render import render_json, render_lines, render_note
    from llmrec.cli.settings import parse_data_settings
    from llmrec.planning.plan import write_plan
    from llmrec.planning.plan_vs_actual import compare_with_run
    from llmrec.reports.plan_text import format_plan, format_plan_comparison
    from llmrec.reports.report_files import read_report

    happened = None if report is None else read_report(report)
    if happened is not None and plan_file is None:
        render_note(
            "the plan is made now; texts that the run has left in the cache are not read again. --plan FILE takes one "
            "from before the run"
        )
    data = parse_data_settings(context.args)
    limits = (gpus, max_memory, max_hours, tflops)
    found = make_or_read_plan(
        config, data, limits, measured_steps, strategies=strategy or [], made=plan_file, report=happened
    )
    if output is not None:
        write_plan(found, output)
    compared = None if happened is None else compare_with_run(found, happened, str(report))
    if json_output:
        render_json(compared or found)
    else:
        render_lines(format_plan(found) if compared is None else format_plan_comparison(compared))
