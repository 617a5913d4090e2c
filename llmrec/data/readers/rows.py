"""Columns from Python values of any types, for files and tables whose columns hold more than one."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

import pyarrow as pa

from llmrec.data.readers.values import TYPE_MARK, NoPlainValueError, normalize_column

LARGEST_EXACT = 2**53  # whole numbers up to it are exact as fractions


class WrittenNumber(float):
    """Number of a JSON file with the text that was written, for columns that mix numbers and text."""

    text: str

    def __new__(cls, text: str) -> WrittenNumber:
        """Read a number and keep its text."""
        number = super().__new__(cls, text)
        number.text = text
        return number


def build_table(rows: Iterable[Mapping[str, Any]], *, wanted: Collection[str]) -> pa.Table:
    """Build a table from rows; columns without a plain form are left out unless wanted.

    Args:
        rows: Values by name; a missing name is null.
        wanted: Columns that stay in any case.

    Returns:
        The table.
    """
    columns: dict[str, list[Any]] = {}
    n_rows = 0
    for row in rows:
        for name, value in row.items():
            column = columns.setdefault(name, [])
            if len(column) < n_rows:
                column.extend([None] * (n_rows - len(column)))
            column.append(value)
        n_rows += 1
    built = {}
    for name, values in columns.items():
        values.extend([None] * (n_rows - len(values)))
        try:
            built[name] = build_column(values)
        except NoPlainValueError:
            if name in wanted:
                built[name] = _build_unplain(values)
    return pa.table(built)


def build_column(values: Sequence[Any]) -> pa.Array:
    """Build a column of one plain type: that of the values, else text.

    Args:
        values: Values, (N,).

    Returns:
        The column, (N,).

    Raises:
        NoPlainValueError: If some value is a mapping or another object without a plain form.
    """
    kinds = {type(value) for value in values} - {type(None)}
    if dict in kinds and kinds <= {dict} and all(_is_marked(value) for value in values if value is not None):
        return build_column([None if value is None else next(iter(value.values())) for value in values])
    if kinds & {dict, set}:
        raise NoPlainValueError("mapping")
    if kinds & {list, tuple}:
        lists = [_flatten_value(value) for value in values]
        inner = build_column([entry for entries in lists for entry in entries or ()])
        offsets = [0]
        for entries in lists:
            offsets.append(offsets[-1] + len(entries or ()))
        mask = pa.array([entries is None for entries in lists])
        return pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), inner, mask=mask)
    if len(kinds) <= 1 or kinds <= {int, float, WrittenNumber}:
        try:
            if float in kinds and any(type(value) is int and abs(value) > LARGEST_EXACT for value in values):
                raise pa.ArrowInvalid("whole numbers that are not exact as fractions")
            return pa.concat_arrays(normalize_column(pa.chunked_array([pa.array(values, from_pandas=True)])).chunks)
        except (pa.ArrowException, OverflowError, UnicodeEncodeError):
            pass
    return pa.array([None if value is None else _write(value) for value in values], pa.large_string())


def _is_marked(value: dict[str, Any]) -> bool:
    """Return True for {"$date": ...} and the like, where the name is that of the type."""
    return len(value) == 1 and next(iter(value)).startswith(TYPE_MARK)


def _flatten_value(value: Any) -> list[Any] | None:
    """Return the entries of nested lists; a value that is no list is one entry."""
    if value is None:
        return None
    if not isinstance(value, (list, tuple)):
        return [value]
    return [entry for inner in value for entry in (_flatten_value(inner) or [None])]


def _write(value: Any) -> str:
    """Return the text of a value as it was written."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, WrittenNumber):
        return value.text
    if isinstance(value, bytes):
        raise NoPlainValueError("bytes")
    if isinstance(value, str):  # half of a pair of surrogates, as \ud800 alone makes it, is no text
        return value.encode("utf-8", "replace").decode()
    return f"{value:f}" if isinstance(value, Decimal) else str(value)


def _build_unplain(values: Sequence[Any]) -> pa.Array:
    """Build a column that a check refuses by its type."""
    return pa.array([None if value is None else {"value": str(value)} for value in values])
