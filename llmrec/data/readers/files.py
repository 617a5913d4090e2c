"""Readers of events and items from files, folders, Hugging Face datasets and the packaged MovieLens."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from llmrec.config.data import DataConfig, TableFormat
from llmrec.data.checks import validate_table
from llmrec.data.item_properties import list_item_columns
from llmrec.data.problems import NamedTable
from llmrec.data.readers.hub import HUB, is_saved_dataset, read_hub
from llmrec.data.readers.memory import MEMORY, missing_tables
from llmrec.data.readers.movielens import MOVIELENS, load_movielens_small
from llmrec.data.readers.places import DataFile, Role, find_in_folder, list_parts, split_name
from llmrec.data.readers.tables import TableRequest, read_parts
from llmrec.data.readers.values import normalize_table
from llmrec.errors import ConfigError, DataError


def read_tables(config: DataConfig, problems: list[str]) -> tuple[NamedTable | None, NamedTable | None]:
    """Read the table of events and the table of items.

    Args:
        config: Sources and column names.
        problems: List to which the problems of tables that cannot be read are appended, one line each.

    Returns:
        Table of events and table of items, each None if it cannot be read.

    Raises:
        ConfigError: If the configuration names no source for one of them.
        DataError: If the packaged data set is requested and its package is not installed.
    """
    if _is_packaged(config):
        return load_movielens_small()
    return read_events(config, list_event_columns(config), problems), read_items(config, problems)


def list_event_columns(config: DataConfig) -> list[str]:
    """List the columns of the events that a log is made of.

    Args:
        config: Column names.

    Returns:
        Names without repetition.
    """
    order = filter(None, [config.order_column])
    return list(dict.fromkeys([config.user_column, config.item_column, config.time_column, *order]))


def read_events(config: DataConfig, columns: Sequence[str], problems: list[str]) -> NamedTable | None:
    """Read the table of events only.

    Args:
        config: Sources and column names.
        columns: Columns that are needed; the table may have others as well.
        problems: List to which problems are appended, one line each.

    Returns:
        The table, or None if it cannot be read.

    Raises:
        ConfigError: If the configuration names no source for it.
        DataError: If the packaged data set is requested and its package is not installed.
    """
    if _is_packaged(config):
        return load_movielens_small()[0]
    ids = [config.user_column, config.item_column]
    return _load_table("interactions", config, problems, ids, needed=columns, only_needed=True)


def list_data_files(config: DataConfig) -> tuple[Path, Path]:
    """Return the files that hold the events and the items, each in one file that can be changed.

    Args:
        config: Sources and column names.

    Returns:
        File of the events and file of the items.

    Raises:
        ConfigError: If the log is in no file of the user: on the Hub, or in a package.
        DataError: If a folder holds no such file, or several, or the file is compressed.
    """
    found = [list_table_files(config, "interactions"), list_table_files(config, "items")]
    for files in found:
        packed = split_name(files[0].path)[2]
        if len(files) > 1 or packed or files[0].kind not in ("parquet", "csv", "jsonl"):
            what = (
                f"{len(files)} files"
                if len(files) > 1
                else f"a file of the form {split_name(files[0].path)[1]}{packed}"
            )
            where = files[0].path.parent if len(files) > 1 else files[0].path
            problem = f"{where}: {what}, from which no rows can be removed"
            raise DataError(str(where), [f"{problem}. Write the table as one file in parquet, csv or jsonl."])
    return found[0][0].path, found[1][0].path


def list_table_files(config: DataConfig, role: Role) -> list[DataFile]:
    """List the files that hold a table.

    Args:
        config: Sources and forms of the tables.
        role: Name of the table.

    Returns:
        The files in the order in which they are read.

    Raises:
        ConfigError: If the table is in no file of the user: on the Hub, or in a package.
        DataError: If there is no such file, or its kind is unknown.
    """
    place = _find_place(config, role)
    if isinstance(place, str) or is_saved_dataset(place):
        raise ConfigError(f"data: the {role} of {place} are not in a file that can be changed. Give files of your own.")
    return list_parts(place, _get_style(config, role).kind, role)


def read_items(config: DataConfig, problems: list[str], *, only_needed: bool = False) -> NamedTable | None:
    """Read the table of items only.

    Args:
        config: Sources and column names.
        problems: List to which problems are appended, one line each.
        only_needed: Whether columns that the settings do not name may be left out.

    Returns:
        The table, or None if it cannot be read.

    Raises:
        ConfigError: If the configuration names no source for it.
        DataError: If the packaged data set is requested and its package is not installed.
    """
    if _is_packaged(config):
        return load_movielens_small()[1]
    ids = [config.catalog_item_column, *(config.property_columns or ())]
    return _load_table("items", config, problems, ids, needed=list_item_columns(config), only_needed=only_needed)


def _is_packaged(config: DataConfig) -> bool:
    return config.source == MOVIELENS and config.interactions is None and config.items is None


def _get_style(config: DataConfig, role: Role) -> TableFormat:
    return config.interactions_format if role == "interactions" else config.items_format


def _find_place(config: DataConfig, role: Role) -> Path | str:
    """Return the file, folder or pattern of a table; the name of its source if it is in no file of the user."""
    explicit = config.interactions if role == "interactions" else config.items
    place = explicit or config.source
    if place is None:
        raise ConfigError(f"data.{role}: no {role}. Set data.source, or data.interactions and data.items.")
    if place == MEMORY:
        raise missing_tables()
    if place.startswith(HUB) or _is_packaged(config):
        return place
    if explicit is None:
        return find_in_folder(Path(place), role)
    inside = None if config.source is None else Path(config.source)
    return inside / explicit if inside is not None and inside.is_dir() else Path(explicit)


def _load_table(
    role: Role, config: DataConfig, problems: list[str], ids: Sequence[str], *, needed: Sequence[str], only_needed: bool
) -> NamedTable | None:
    quoted = config.pseudonyms is None or role == "items"
    style, skip = _get_style(config, role), config.faulty_rows == "drop"
    request = TableRequest(role, ids, needed, only_needed, style, quoted, skip)
    try:
        return _read(config, request)
    except DataError as error:
        problems += error.problems
        return None


def _read(config: DataConfig, request: TableRequest) -> NamedTable:
    """Read one table from wherever it is."""
    role = request.role
    try:
        place = _find_place(config, role)
        if isinstance(place, Path) and not is_saved_dataset(place):
            return read_parts(list_parts(place, request.style.kind, role), request)
    except OSError as error:  # a name that is too long, or a folder that may not be looked into
        shown = str(config.interactions or config.source)[:200]
        raise DataError(shown, [f"{shown}: {error.strerror}. Correct the path."]) from error
    only = isinstance(place, Path) or (config.interactions if role == "interactions" else config.items) is not None
    table, features = read_hub(str(place), role, only=only, quoted=request.quoted)
    name = f"{place} {role}"
    table = normalize_table(table, wanted=request.needed, features=features)
    return NamedTable(name, validate_table(name, table, request.needed))
