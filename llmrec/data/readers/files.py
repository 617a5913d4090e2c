"""Readers of events and items from files, folders, Hugging Face datasets and the packaged MovieLens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq

from llmrec.config.data import DataConfig
from llmrec.data.checks import check_closed_quotes, check_json_nesting, check_unique_columns, validate_table
from llmrec.data.problems import NamedTable
from llmrec.data.readers.memory import MEMORY, missing_tables
from llmrec.data.readers.movielens import MOVIELENS, load_movielens_small
from llmrec.errors import ConfigError, DataError

EXTENSIONS = (".parquet", ".csv", ".jsonl")
HUB = "hub:"
CSV_BLOCK, JSON_BLOCK, LARGEST_BLOCK = 1 << 20, 1 << 24, (1 << 31) - 2  # bytes


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
    wanted = [config.user_column, config.item_column, config.time_column, *filter(None, [config.order_column])]
    return read_events(config, wanted, problems), read_items(config, problems)


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
    return _load_table("interactions", config, problems, [config.user_column, config.item_column], columns)


def list_data_files(config: DataConfig) -> tuple[Path, Path]:
    """Return the files that hold the events and the items.

    Args:
        config: Sources and column names.

    Returns:
        File of the events and file of the items.

    Raises:
        ConfigError: If the log is in no file of the user: on the Hub, or in a package.
        DataError: If a folder holds no such file, or several.
    """
    found = []
    for role, explicit in (("interactions", config.interactions), ("items", config.items)):
        place = explicit or config.source
        if place is None or place.startswith(HUB) or place == MEMORY or _is_packaged(config):
            raise ConfigError(
                f"data: the {role} of {place} are not in a file that can be changed. Give files of your own."
            )
        found.append(Path(place) if explicit else _find_in_folder(Path(place), role))
    return found[0], found[1]


def read_items(config: DataConfig, problems: list[str], fields: Sequence[str] | None = None) -> NamedTable | None:
    """Read the table of items only.

    Args:
        config: Sources and column names.
        problems: List to which problems are appended, one line each.
        fields: Columns that are needed in addition to the ids, others may be left out; None for all.

    Returns:
        The table, or None if it cannot be read.

    Raises:
        ConfigError: If the configuration names no source for it.
        DataError: If the packaged data set is requested and its package is not installed.
    """
    if _is_packaged(config):
        return load_movielens_small()[1]
    ids = [config.catalog_item_column]
    return _load_table("items", config, problems, ids, None if fields is None else [*ids, *fields])


def _is_packaged(config: DataConfig) -> bool:
    return config.source == MOVIELENS and config.interactions is None and config.items is None


def _load_table(
    role: Literal["interactions", "items"],
    config: DataConfig,
    problems: list[str],
    ids: Sequence[str],
    columns: Sequence[str] | None,
) -> NamedTable | None:
    explicit = config.interactions if role == "interactions" else config.items
    quoted = config.pseudonyms is None or role == "items"
    try:
        return _read(role, explicit, config.source, ids, columns, quoted)
    except DataError as error:
        problems += error.problems
        return None


def _read(
    role: str,
    explicit: str | None,
    source: str | None,
    ids: Sequence[str],
    columns: Sequence[str] | None,
    quoted: bool,
) -> NamedTable:
    """Read one table."""
    # `ids` are columns that stay text in files without types. A reader's message may quote a row, so it is kept only
    # if `quoted` is set.
    place = explicit or source
    if place is None:
        raise ConfigError(f"data.{role}: no {role}. Set data.source, or data.interactions and data.items.")
    if place == MEMORY:
        raise missing_tables()
    if place.startswith(HUB):
        name = f"{place} {role}"
        return NamedTable(
            name, validate_table(name, _read_hub(place.removeprefix(HUB), role, explicit is not None, quoted), columns)
        )
    try:
        path = Path(place) if explicit else _find_in_folder(Path(place), role)
        if not path.is_file():
            held = "a folder, not a file" if path.is_dir() else "no such file"
            raise DataError(str(path), [f"{path}: {held}. Correct the path."])
    except OSError as error:  # a name that is too long, or a folder that may not be looked into
        raise DataError(place, [f"{place[:200]}: {error.strerror}. Correct the path."]) from error
    if path.suffix not in EXTENSIONS:
        raise DataError(
            str(path), [f"{path.name}: unknown extension '{path.suffix}'. Use one of {', '.join(EXTENSIONS)}."]
        )
    try:
        return NamedTable(path.name, validate_table(path.name, _read_file(path, ids, columns), columns))
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        if isinstance(error, DataError):
            raise
        reason = _describe_read_error(error, quoted)[:500]
        raise DataError(
            str(path), [f"{path.name}: unreadable as {path.suffix[1:]} ({reason}). Repair it or write it again."]
        ) from (error if quoted else None)


def _find_in_folder(folder: Path, role: str) -> Path:
    if not folder.is_dir():
        raise DataError(str(folder), [f"{folder}: no such folder. Correct data.source, or set it to {MOVIELENS}."])
    found = [folder / (role + extension) for extension in EXTENSIONS if (folder / (role + extension)).is_file()]
    if len(found) == 1:
        return found[0]
    names = ", ".join(role + extension for extension in EXTENSIONS)
    held = ", ".join(sorted(path.name for path in folder.iterdir())) or "nothing"
    what = "more than one" if found else "none"
    raise DataError(str(folder), [f"{folder}: has {what} of {names} (it has {held}). Keep one, or set data.{role}."])


def _read_file(path: Path, ids: Sequence[str], columns: Sequence[str] | None) -> pa.Table:
    if path.suffix == ".parquet":
        schema = pq.read_schema(path)
        check_unique_columns(path.name, schema.names, columns)
        # If a column is missing, all are read, so that the message can list the columns of the file.
        if columns is None or not set(columns) <= set(schema.names):
            return pq.read_table(path)
        return pa.table({name: _read_column(path, name, name in ids) for name in dict.fromkeys(columns)})
    if path.suffix == ".csv":
        # Ids stay as written: 007 is not 7.
        convert = pyarrow.csv.ConvertOptions(column_types={name: pa.large_string() for name in ids})
        parse = pyarrow.csv.ParseOptions(newlines_in_values=True)

        def read(block_size: int) -> pa.Table:
            options = pyarrow.csv.ReadOptions(block_size=block_size)
            return pyarrow.csv.read_csv(path, options, convert_options=convert, parse_options=parse)

        table = _read_in_blocks(path, read, CSV_BLOCK)
        check_closed_quotes(path, table)
        return table
    check_json_nesting(path)
    return _read_in_blocks(path, lambda block_size: _read_jsonl(path, block_size), JSON_BLOCK)


def _read_in_blocks(path: Path, read: Callable[[int], pa.Table], size: int) -> pa.Table:
    """Read a file of lines in blocks of `size` bytes, or as one block if a line is longer."""
    try:
        return read(size)
    except pa.ArrowInvalid as error:
        if "straddl" not in str(error) or not size < path.stat().st_size < LARGEST_BLOCK:
            raise
        return read(path.stat().st_size + 1)


def _read_column(path: Path, name: str, encode: bool) -> pa.ChunkedArray:
    """Read a column of a parquet file; `encode` stores repeated text once, with a number for each row."""
    column = pq.read_table(path, columns=[name], pre_buffer=False)[name]
    if not encode or not pa.types.is_string(column.type) or not len(column):
        return column
    encoded = column.dictionary_encode()  # all chunks share one dictionary; a single chunk shows it
    indices = pa.concat_arrays([chunk.indices for chunk in encoded.chunks])
    return pa.chunked_array([pa.DictionaryArray.from_arrays(indices, encoded.chunk(0).dictionary)])


def _read_jsonl(path: Path, block_size: int) -> pa.Table:
    options = pyarrow.json.ReadOptions(block_size=block_size)
    table = pyarrow.json.read_json(path, options)
    # The reader turns text that looks like a time into times and drops the offset: read the text instead.
    text = pa.schema([(field.name, pa.string()) for field in table.schema if pa.types.is_timestamp(field.type)])
    if not text.names:
        return table
    return pyarrow.json.read_json(path, options, pyarrow.json.ParseOptions(explicit_schema=text))


def _read_hub(name: str, role: str, only: bool, quoted: bool) -> pa.Table:
    """Read all splits of the configuration or files `role` of a dataset; with `only`, of the whole one."""
    try:
        import datasets
    except ImportError as error:
        raise DataError(
            name, [f"{HUB}{name}: the package datasets is not installed. Run pip install datasets."]
        ) from error
    try:
        parts: Any
        if role in datasets.get_dataset_config_names(name):
            parts = datasets.load_dataset(name, role)
        elif only:
            parts = datasets.load_dataset(name)
        else:
            parts = datasets.load_dataset(name, data_files=f"{role}*")
    except Exception as error:  # raised by the Hub, its client or the file readers
        reason = _describe_read_error(error, quoted)
        raise DataError(
            name, [f"{HUB}{name}: no {role} ({reason}). Add a configuration or a file of that name."]
        ) from (error if quoted else None)
    return pa.concat_tables([parts[split].data.table for split in parts])


def _describe_read_error(error: Exception, quoted: bool) -> str:
    """Format a read error; unless `quoted`, only its kind, because readers quote the row that failed."""
    return (
        " ".join(str(error).split())
        if quoted
        else f"{type(error).__name__}, details hidden because they may name a user"
    )
