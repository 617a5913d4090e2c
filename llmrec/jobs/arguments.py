"""Convert the arguments of Python calls to configurations and tables."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from llmrec.config.data import DataConfig
from llmrec.config.overrides import Settings, merge_settings, nest_overrides, read_settings, to_plain
from llmrec.config.typed_settings import Config, config_from_dict
from llmrec.data.column_mapping import guess_columns
from llmrec.data.readers.memory import MEMORY, LogTables
from llmrec.data.readers.preview import read_schemas
from llmrec.errors import ConfigError

PLACES = ("source", "interactions", "items")
FORMATS = ("interactions_format", "items_format")
RUNS = Path("runs")


def build_log_config(
    kind: type[Config],
    config: object,
    overrides: Mapping[str, object],
    log: LogTables,
    *,
    text_template: str | None,
) -> tuple[Config, LogTables | None]:
    """Build the configuration of a job on a log; columns that are not named are guessed.

    Args:
        kind: Dataclass of the configuration, which has a section `data`.
        config: Preset, path, mapping, instance of `kind`, or None.
        overrides: Settings that win, with `__` between sections.
        log: Events and items as tables or paths; None for those of the configuration.
        text_template: Template of item texts; None for that of the configuration, else a guess.

    Returns:
        The configuration, and the tables if they are in memory.

    Raises:
        ConfigError: If a setting is wrong, or the events and the items do not go together.
    """
    places, tables = locate_log(*log)
    settings = merge_settings(read_settings(config, kind, get_job_name(kind)), nest_overrides(overrides))
    if text_template is not None:
        places = places | {"text_template": text_template}
    data = settings.get("data") or {}
    if isinstance(data, dict) and places:
        needs_folder = data.get("source") is None and data.get("interactions") is not None
        if needs_folder and places.get("source") is not None and tables is None:  # as presets of published logs do
            settings["data"] = data | {name: value for name, value in places.items() if value is not None}
        else:
            settings["data"] = complete_data(data | places, tables)
    return _build(kind, settings), tables


def build_config(kind: type[Config], config: object, overrides: Mapping[str, object], changes: Settings) -> Config:
    """Build a configuration.

    Args:
        kind: Dataclass of the configuration.
        config: Preset, path, mapping, instance of `kind`, or None.
        overrides: Settings that win, with `__` between sections.
        changes: Nested settings that win over both.

    Returns:
        The configuration.

    Raises:
        ConfigError: If a setting is wrong.
    """
    settings = merge_settings(read_settings(config, kind, get_job_name(kind)), nest_overrides(overrides))
    return _build(kind, merge_settings(settings, changes))


def prepare_source(source: object) -> tuple[Settings, LogTables | None]:
    """Turn a log to learn from into settings and tables; columns that are not named are guessed.

    Args:
        source: Pair (events, items) of tables or files, a folder, or a DataConfig or mapping of its settings.

    Returns:
        Settings as of `data`, and the tables if they are in memory.

    Raises:
        ConfigError: If it is something else.
    """
    if isinstance(source, (Mapping, DataConfig)):
        return complete_data(to_plain(source), None), None
    pair = source if isinstance(source, tuple) else (source, None)
    if len(pair) != 2:
        raise ConfigError(f"sources: a tuple of {len(pair)}. Pass pairs (events, items).")
    places, tables = locate_log(*pair)
    return complete_data(places, tables), tables


def locate_log(events: object, items: object) -> tuple[Settings, LogTables | None]:
    """Turn events and items into settings and tables.

    Args:
        events: A table, a path, or None for the log of the configuration.
        items: A table or a path; None if `events` is a folder or the name of a data set.

    Returns:
        Settings that say where the log is, and the tables if they are in memory.

    Raises:
        ConfigError: If one is missing, or one is a table and the other a path.
    """
    if events is None and items is None:
        return {}, None
    paths = [isinstance(given, (str, Path)) for given in (events, items)]
    if paths[0] and items is None:
        return dict(zip(PLACES, (str(events), None, None), strict=True)), None
    if events is None or items is None:
        missing = "events" if events is None else "items"
        raise ConfigError(f"{missing}: None. Pass both tables or both files, or a folder as events.")
    if all(paths):
        return dict(zip(PLACES, (None, str(events), str(items)), strict=True)), None
    if any(paths):
        raise ConfigError("events, items: one is a path and one a table. Pass two tables or two paths.")
    return dict(zip(PLACES, (MEMORY, None, None), strict=True)), (events, items)


def complete_data(data: Settings, tables: LogTables | None) -> Settings:
    """Add guesses of the columns and the template to settings of a log.

    Args:
        data: Settings as of `data`.
        tables: Events and items in memory, if they are.

    Returns:
        The settings; those that were given stay.
    """
    if any(data.get(form) for form in FORMATS):  # files whose columns are named already
        return data
    source, interactions, items = (data.get(place) for place in PLACES)
    schemas = read_schemas(DataConfig(source=source, interactions=interactions, items=items), tables)
    guesses = {} if schemas is None else {guess.setting: guess.value for guess in guess_columns(*schemas)}
    return guesses | data


def get_job_name(kind: type[Any]) -> str:
    """Return the name of the job that a class configures, which is that of its module.

    Args:
        kind: Dataclass of the configuration.

    Returns:
        Name of the job, such as `finetune`.
    """
    return kind.__module__.rpartition(".")[2]


def _build(kind: type[Config], settings: Settings) -> Config:
    if settings.get("output") is None:
        settings["output"] = str(_name_folder(get_job_name(kind)))
    return config_from_dict(kind, settings)


def _name_folder(job: str) -> Path:
    """Return a new folder below ./runs, named by the job and the time."""
    name = f"{job}-{datetime.now():%Y%m%d-%H%M%S}"
    folders = (RUNS / f"{name}{suffix}" for suffix in ("", *(f"-{count}" for count in range(2, 10_000))))
    return next(folder for folder in folders if not folder.exists())
