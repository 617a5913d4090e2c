"""Commands that run jobs.

These are train, pretrain, distill, transfer, rerank, encode-catalog and recommend-all. Each takes the settings of its
configuration as options, and runs here or in several processes.
"""

from __future__ import annotations

from typing import Annotated

import typer

from llmrec.cli.jobs import JobCommand, run_command
from llmrec.cli.options import BundleArgument, CountOption, JsonOption, RevisionOption, TimeOption

app = typer.Typer()

ConfigOption = Annotated[
    list[str] | None,
    typer.Option("--config", metavar="PRESET_OR_FILE", help="Preset or YAML file of settings. [default: none]"),
]
ProcessesOption = Annotated[
    int | None,
    typer.Option(metavar="N", min=1, help="Number of processes to start on this machine. [default: this one]"),
]
AccelerateConfigOption = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        help="File of `accelerate config`, or one of ddp, fsdp, multi_node, to start processes by. [default: none]",
    ),
]


def describe_settings(command: str) -> str:
    """Return the end of the help of a command that takes settings.

    Args:
        command: Name of the command.

    Returns:
        Two sentences.
    """
    return (
        f"Settings follow as --section.key VALUE, after those of --config; `llmrec settings {command}` lists them. "
        "--print_config prints the result as YAML."
    )


@app.command(cls=JobCommand, epilog=describe_settings("train"))
def train(
    context: typer.Context,
    config: ConfigOption = None,
    *,
    processes: ProcessesOption = None,
    accelerate_config: AccelerateConfigOption = None,
    json_output: JsonOption = False,
) -> None:
    """Train a recommender on a log and evaluate it.

    Writes report.json, report.md, figures/ and bundle/ into --output FOLDER. Example: llmrec train --config quickstart
    """
    run_command(context, config, processes=processes, accelerate_config=accelerate_config, json_output=json_output)


@app.command(cls=JobCommand, epilog=describe_settings("pretrain"))
def pretrain(
    context: typer.Context,
    config: ConfigOption = None,
    *,
    processes: ProcessesOption = None,
    accelerate_config: AccelerateConfigOption = None,
    json_output: JsonOption = False,
) -> None:
    """Continue a backbone's pretraining on a log.

    Writes backbone/ into the output folder, which `llmrec train --backbone.name FOLDER` takes.
    """
    run_command(context, config, processes=processes, accelerate_config=accelerate_config, json_output=json_output)


@app.command(cls=JobCommand, epilog=describe_settings("distill"))
def distill(
    context: typer.Context,
    config: ConfigOption = None,
    *,
    processes: ProcessesOption = None,
    accelerate_config: AccelerateConfigOption = None,
    json_output: JsonOption = False,
) -> None:
    """Distill a bundle into one with a smaller backbone.

    Example: llmrec distill --config distill --teacher runs/quickstart/bundle
    """
    run_command(context, config, processes=processes, accelerate_config=accelerate_config, json_output=json_output)


@app.command(cls=JobCommand, epilog=describe_settings("transfer"))
def transfer(
    context: typer.Context,
    config: ConfigOption = None,
    *,
    processes: ProcessesOption = None,
    accelerate_config: AccelerateConfigOption = None,
    json_output: JsonOption = False,
) -> None:
    """Compare four ways to use logs of other domains.

    Example: llmrec transfer --config transfer --data.source TARGET --sources '[{source: SOURCE}]'
    """
    run_command(context, config, processes=processes, accelerate_config=accelerate_config, json_output=json_output)


@app.command(cls=JobCommand, epilog=describe_settings("rerank"))
def rerank(context: typer.Context, config: ConfigOption = None, *, json_output: JsonOption = False) -> None:
    """Re-rank candidates by a pretrained decoder.

    Nothing trains: it shows what a language model knows by itself.
    """
    run_command(context, config, json_output=json_output)


@app.command("encode-catalog", cls=JobCommand, epilog=describe_settings("encode-catalog"))
def encode_catalog(
    context: typer.Context,
    config: ConfigOption = None,
    *,
    processes: ProcessesOption = None,
    accelerate_config: AccelerateConfigOption = None,
    json_output: JsonOption = False,
) -> None:
    """Encode the texts of a catalog into the cache.

    Training with the same settings of data and backbone finds the vectors there.
    """
    run_command(context, config, processes=processes, accelerate_config=accelerate_config, json_output=json_output)


@app.command("recommend-all", cls=JobCommand, epilog=describe_settings("recommend-all"))
def recommend_all(
    context: typer.Context,
    bundle: BundleArgument,
    *,
    count: CountOption = 10,
    filters: Annotated[
        list[str] | None,
        typer.Option(
            "--filter",
            metavar="FIELD=VALUE",
            help="Only items with this value, or FIELD~PART for a part of it; repeat to narrow. [default: all items]",
        ),
    ] = None,
    at: TimeOption = None,
    processes: ProcessesOption = None,
    accelerate_config: AccelerateConfigOption = None,
    revision: RevisionOption = None,
    json_output: JsonOption = False,
) -> None:
    """Recommend items to all users of a log.

    Writes parquet files into --output FOLDER; a run that was stopped continues with the parts that are missing.
    """
    import json

    from llmrec.cli.inputs import find_bundle

    given = ["--bundle", str(find_bundle(bundle, revision)), "--k", str(count)]
    given += ["--filters", json.dumps(filters)] if filters else []
    given += ["--at", at] if at is not None else []
    run_command(
        context, None, processes=processes, accelerate_config=accelerate_config, given=given, json_output=json_output
    )
