"""Well-known published logs, recognized by the names of their files and columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import yaml

from llmrec.config.data import DataConfig, TableFormat
from llmrec.config.presets import get_preset
from llmrec.data.item_properties import list_item_columns
from llmrec.data.readers.csv_files import read_header
from llmrec.data.readers.files import list_event_columns, list_table_files
from llmrec.data.readers.json_files import read_json_sample
from llmrec.data.readers.places import DataFile, Role
from llmrec.errors import LlmrecError

# Presets, and files that set their logs apart in addition to those of their settings; the first that fits wins.
MARKS: dict[str, tuple[str, ...]] = {
    "movielens_100k": (),
    "movielens_10m": ("tags.dat",),
    "movielens_1m": (),
    "movielens_csv": (),
    "amazon_2023": (),
    "amazon_2014": (),
    "amazon_2018": (),
    "yelp": (),
    "steam": (),
    "goodreads": (),
    "mind": (),
    "hm": (),
    "lastfm_1k": (),
    "lastfm_2k": (),
    "retailrocket": (),
    "food_com_raw": (),
    "kuairec": (),
}
SAMPLE_ROWS = 100
ROLES: tuple[Role, ...] = get_args(Role)


@dataclass(frozen=True)
class KnownLog:
    """Published log that was recognized."""

    preset: str
    """Name of the preset."""
    config: DataConfig
    """Settings of its section `data`, with the folder."""
    settings: tuple[str, ...]
    """Names of the settings that the preset sets."""


def recognize_log(folder: Path) -> KnownLog | None:
    """Recognize a published log by its files and their columns.

    Args:
        folder: The folder.

    Returns:
        The preset and its settings; None if the folder holds none of them.
    """
    for name, marks in MARKS.items():
        if not all((folder / mark).is_file() for mark in marks):
            continue
        stored = yaml.safe_load(get_preset(name, "finetune").read_text(encoding="utf-8"))
        config = _build_config(stored["data"], folder)
        columns = {"interactions": list_event_columns(config), "items": list_item_columns(config)}
        if all(_fits(config, role, columns[role]) for role in ROLES):
            return KnownLog(name, config, tuple(stored["data"]))
    return None


def _build_config(settings: Mapping[str, Any], folder: Path) -> DataConfig:
    """Build the section of a preset, which is sound, without the parser of all settings, which takes a second."""
    plain = _freeze(settings)
    for name, value in settings.items():
        if isinstance(value, dict):
            plain[name] = TableFormat(**_freeze(value))
    return DataConfig(**(plain | {"source": str(folder)}))


def _freeze(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()}


def _fits(config: DataConfig, role: Role, columns: list[str]) -> bool:
    """Return whether the first file of a table is there and has the columns."""
    try:
        return set(columns) <= set(_read_names(list_table_files(config, role)[0], config, role))
    except (LlmrecError, OSError, ValueError):
        return False


def _read_names(file: DataFile, config: DataConfig, role: Role) -> list[str]:
    if file.kind == "jsonl":
        return list(read_json_sample(file.path, SAMPLE_ROWS).column_names)
    style = config.interactions_format if role == "interactions" else config.items_format
    return read_header(file.path, style)[0]
