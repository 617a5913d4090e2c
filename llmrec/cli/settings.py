"""Dotted settings of commands, such as `--data.source FOLDER`, and the command settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmrec.cli.jobs import JOBS, load_config_class
from llmrec.cli.options import JsonOption
from llmrec.errors import ConfigError

if TYPE_CHECKING:
    from llmrec.config.data import DataConfig
    from llmrec.config.split import SplitConfig

app = typer.Typer()


@app.command()
def settings(
    command: Annotated[str, typer.Argument(metavar="COMMAND", help=f"One of {', '.join(JOBS)}.")],
    section: Annotated[
        str, typer.Argument(metavar="SECTION", help="Section or setting, such as train. [default: all of them]")
    ] = "",
    *,
    json_output: JsonOption = False,
) -> None:
    """List the settings of a command, with type and default.

    Example: llmrec settings train backbone.lora
    """
    from llmrec.cli.render import render_json, render_lines
    from llmrec.config.presets import list_presets
    from llmrec.config.settings import format_settings, list_settings

    if command not in JOBS:
        raise ConfigError(f"{command}: no such command with settings. Give one of {', '.join(JOBS)}.")
    kind = load_config_class(command)
    found = [
        setting for setting in list_settings(kind) if f"{setting.name}.".startswith(f"{section}." if section else "")
    ]
    if not found:
        names = [setting.name for setting in list_settings(kind) if "." not in setting.name]
        raise ConfigError(f"{section}: no such setting of {command}. It has {', '.join(names)}.")
    if json_output:
        render_json(found)
        return
    render_lines(format_settings(found))
    if not section and (presets := list_presets(JOBS[command][0])):
        render_lines(["", f"presets for --config: {', '.join(presets)}"])


def parse_data_settings(arguments: list[str]) -> DataConfig | None:
    """Parse the settings of a log.

    Args:
        arguments: Dotted options, `--data.KEY VALUE`.

    Returns:
        The settings; None if there are no arguments.

    Raises:
        ConfigError: If a setting is unknown or its value is wrong.
    """
    if not arguments:
        return None
    return parse_log_settings(arguments)[0]


def parse_given_settings(arguments: list[str]) -> dict[str, Any]:
    """Parse the settings of a log that differ from their defaults.

    Args:
        arguments: Dotted options, `--data.KEY VALUE`.

    Returns:
        Values by name.

    Raises:
        ConfigError: If a setting is unknown or its value is wrong.
    """
    from llmrec.config.data import DataConfig

    given = parse_data_settings(arguments) or DataConfig()
    return {name: value for name, value in vars(given).items() if value != getattr(DataConfig(), name)}


def parse_log_settings(arguments: list[str]) -> tuple[DataConfig | None, SplitConfig | None]:
    """Parse the settings of a log and of its split.

    Args:
        arguments: Dotted options, `--data.KEY VALUE` and `--split.KEY VALUE`.

    Returns:
        The settings of each; None for one without any.

    Raises:
        ConfigError: If a setting is unknown or its value is wrong.
    """
    from llmrec.config.data import DataConfig
    from llmrec.config.loader import parse_sections
    from llmrec.config.split import SplitConfig

    data, split = parse_sections({"data": DataConfig, "split": SplitConfig}, arguments)
    return data, split
