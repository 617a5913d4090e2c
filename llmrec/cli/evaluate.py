"""The command evaluate. Heavy imports wait inside the function."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from llmrec.cli.options import (
    LOG_SETTINGS,
    BackboneOption,
    BundleArgument,
    JsonOption,
    RevisionOption,
    SettingsCommand,
)

app = typer.Typer()


@app.command(cls=SettingsCommand, epilog=LOG_SETTINGS)
def evaluate(
    context: typer.Context,
    bundle: BundleArgument,
    *,
    split: Annotated[
        Literal["by_time", "leave_one_out", "item_cold"] | None,
        typer.Option(metavar="by_time|leave_one_out|item_cold", help="Split to test on. [default: the bundle's first]"),
    ] = None,
    backbone: BackboneOption = None,
    revision: RevisionOption = None,
    json_output: JsonOption = False,
) -> None:
    """Evaluate a bundle on the test part of its log.

    Metrics come with 95% intervals, overall and by slice.
    """
    from llmrec.cli.inputs import find_bundle
    from llmrec.cli.render import render_json, render_lines, render_note
    from llmrec.cli.settings import parse_data_settings
    from llmrec.hub.training_log import load_bundle_and_log, training_overlap_warning
    from llmrec.jobs.evaluate import evaluate_bundle
    from llmrec.reports.report_text import render_slices

    data = parse_data_settings(context.args)
    loaded, log = load_bundle_and_log(find_bundle(bundle, revision), data, backbone=backbone)
    name = split or loaded.config.split.names[0]
    if note := training_overlap_warning(loaded, log, name):
        render_note(note)
    report = evaluate_bundle(loaded, log, name)
    if json_output:
        render_json(report.to_record())
    else:
        render_lines([render_slices(report, name)])
