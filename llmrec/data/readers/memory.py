"""Reader of tables in memory: pandas, polars, Arrow and everything else with the Arrow PyCapsule interface."""

from __future__ import annotations

import sys
from typing import Any, TypeAlias

import pyarrow as pa

from llmrec.data.checks import validate_table
from llmrec.data.problems import NamedTable
from llmrec.errors import DataError

MEMORY = "memory"  # the source of a log that was passed as tables
LogTables: TypeAlias = "tuple[object, object]"  # events and items
KINDS = "a pandas, polars or Arrow table, a datasets.Dataset, or a path"


def read_memory(tables: LogTables, problems: list[str]) -> tuple[NamedTable | None, NamedTable | None]:
    """Convert the tables of a log to Arrow, mostly without a copy.

    Args:
        tables: Events and items, each pandas, polars, Arrow, datasets.Dataset, or any object with `__arrow_c_stream__`.
        problems: List to which problems are appended, one line each.

    Returns:
        Table of events and table of items, each None if it is no table, cannot be converted, or has several columns of
        one name.
    """
    events, items = tables
    return _read("events", events, problems), _read("items", items, problems)


def missing_tables() -> DataError:
    """Return the error for a log that was in memory and is needed again."""
    problem = f"data.source={MEMORY}: the log was passed as tables, of which no copy is kept"
    return DataError(MEMORY, [f"{problem}. Pass the events and items again, or name a log on disk in data.source."])


def _read(name: str, data: object, problems: list[str]) -> NamedTable | None:
    """Convert one table; `name` is its name in messages."""
    try:
        return NamedTable(name, validate_table(name, _normalize(_to_arrow(name, data)), None))
    except DataError as error:
        problems += error.problems
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        reason = str(error.args[-1] if error.args else type(error).__name__)  # pandas: the column, without its values
        problems.append(f"{name}: not convertible to Arrow ({reason[:200]}). Give each column one type.")
    return None


def _to_arrow(name: str, data: Any) -> pa.Table:
    datasets, pandas = sys.modules.get("datasets"), sys.modules.get("pandas")  # loaded if data is of one of them
    if datasets is not None and isinstance(data, datasets.Dataset):
        return data.with_format("arrow")[:]  # with the rows of its indices, which its own table lacks
    if datasets is not None and isinstance(data, datasets.DatasetDict):
        raise DataError(name, [f"{name}: a DatasetDict has several tables. Pass one, such as {name}['train']."])
    if pandas is not None and isinstance(data, pandas.DataFrame):
        named = any(level is not None for level in data.index.names)
        return pa.Table.from_pandas(data, preserve_index=named)
    if isinstance(data, pa.Table):
        return data
    if hasattr(data, "__arrow_c_stream__") or hasattr(data, "__arrow_c_array__"):
        return pa.table(data)
    raise DataError(name, [f"{name}: {type(data).__name__} is no table. Pass {KINDS}."])


def _normalize(table: pa.Table) -> pa.Table:
    """Drop metadata, and replace string views, as polars has them, by strings, which all of Arrow's functions take."""
    return table.cast(pa.schema([pa.field(field.name, _replace_view(field.type)) for field in table.schema]))


def _replace_view(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_string_view(kind):
        return pa.large_string()
    if pa.types.is_dictionary(kind):
        return pa.dictionary(kind.index_type, _replace_view(kind.value_type))
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return pa.large_list(_replace_view(kind.value_type))
    return kind
