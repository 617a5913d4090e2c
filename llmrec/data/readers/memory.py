"""Reader of tables in memory: pandas, polars, Arrow and everything else with the Arrow PyCapsule interface."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, TypeAlias

import pyarrow as pa

from llmrec.data.checks import check_unique_columns, validate_table
from llmrec.data.problems import NamedTable
from llmrec.data.readers.rows import build_column
from llmrec.data.readers.values import Features, NoPlainValueError, normalize_table
from llmrec.errors import DataError

MEMORY = "memory"  # the source of a log that was passed as tables
LogTables: TypeAlias = "tuple[object, object]"  # events and items
KINDS = "a pandas, polars or Arrow table, a datasets.Dataset, or a path"


def read_memory(
    tables: LogTables, problems: list[str], *, needed: tuple[Sequence[str], Sequence[str]] = ((), ())
) -> tuple[NamedTable | None, NamedTable | None]:
    """Convert the tables of a log to Arrow, mostly without a copy.

    Args:
        tables: Events and items, each pandas, polars, Arrow, datasets.Dataset, or any object with `__arrow_c_stream__`.
        problems: List to which problems are appended, one line each.
        needed: Columns of the events and of the items that messages may name; others without a plain form are left out.

    Returns:
        Table of events and table of items, each None if it is no table, cannot be converted, or has several columns of
        one name.
    """
    events, items = tables
    return _read("events", events, problems, needed[0]), _read("items", items, problems, needed[1])


def missing_tables() -> DataError:
    """Return the error for a log that was in memory and is needed again."""
    problem = f"data.source={MEMORY}: the log was passed as tables, of which no copy is kept"
    return DataError(MEMORY, [f"{problem}. Pass the events and items again, or name a log on disk in data.source."])


def _read(name: str, data: object, problems: list[str], needed: Sequence[str]) -> NamedTable | None:
    """Convert one table; `name` is its name in messages."""
    try:
        table, features = _to_arrow(name, data)
        return NamedTable(name, validate_table(name, normalize_table(table, wanted=needed, features=features), None))
    except DataError as error:
        problems += error.problems
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        reason = str(error.args[-1] if error.args else type(error).__name__)  # pandas: the column, without its values
        problems.append(f"{name}: not convertible to Arrow ({reason[:200]}). Give each column one type.")
    return None


def _to_arrow(name: str, data: Any) -> tuple[pa.Table, Features | None]:
    """Convert a table, and return the descriptions of its columns if it has some."""
    datasets, pandas = sys.modules.get("datasets"), sys.modules.get("pandas")  # loaded if data is of one of them
    polars = sys.modules.get("polars")
    if datasets is not None and isinstance(data, datasets.Dataset):
        return data.with_format("arrow")[:], data.features.to_dict()  # with the rows of its indices
    if datasets is not None and isinstance(data, datasets.DatasetDict):
        raise DataError(name, [f"{name}: a DatasetDict has several tables. Pass one, such as {name}['train']."])
    if pandas is not None and isinstance(data, pandas.DataFrame):
        return _from_pandas(name, data), None
    if polars is not None and isinstance(data, polars.LazyFrame):
        data = data.collect()
    if polars is not None and isinstance(data, polars.DataFrame):
        return _from_columns(name, [(column, data.get_column(column)) for column in data.columns]), None
    if isinstance(data, pa.Table):
        return data, None
    if hasattr(data, "__arrow_c_stream__") or hasattr(data, "__arrow_c_array__"):
        return pa.table(data), None
    raise DataError(name, [f"{name}: {type(data).__name__} is no table. Pass {KINDS}."])


def _from_pandas(name: str, data: Any) -> pa.Table:
    if any(level is not None for level in data.index.names):
        data = data.reset_index()
    return _from_columns(name, [(str(column), data.iloc[:, place]) for place, column in enumerate(data.columns)])


def _from_columns(name: str, columns: Sequence[tuple[str, Any]]) -> pa.Table:
    """Convert columns one by one; one of several types becomes text, one without a plain form is left out."""
    check_unique_columns(name, [column for column, _ in columns], None)
    built: dict[str, Any] = {}
    for column, values in columns:
        with suppress(NoPlainValueError):
            built[column] = _convert_column(values)
    return pa.table(built)


def _convert_column(values: Any) -> pa.ChunkedArray:
    """Convert a column of pandas or polars."""
    try:
        if str(values.dtype) == "Object":  # of polars, which would convert addresses
            raise TypeError("Python objects")
        if str(values.dtype).startswith(("period", "interval")):  # of pandas, as text such as 2024-01
            values = values.astype(str)
        if hasattr(values, "to_arrow"):
            return pa.chunked_array([values.to_arrow()])
        made = pa.Array.from_pandas(values)
        return made if isinstance(made, pa.ChunkedArray) else pa.chunked_array([made])
    except BaseException as error:  # polars panics over Python objects, which is no Exception
        if isinstance(error, (KeyboardInterrupt, SystemExit, MemoryError)):
            raise
        rows = values.to_list()
        empty = [value is None or (isinstance(value, float) and math.isnan(value)) for value in rows]
        return pa.chunked_array([build_column([None if no else row for no, row in zip(empty, rows, strict=True)])])
