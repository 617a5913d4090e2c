"""Dotted settings of commands, such as `--data.source FOLDER`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llmrec.config.data import DataConfig
    from llmrec.config.split import SplitConfig


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
