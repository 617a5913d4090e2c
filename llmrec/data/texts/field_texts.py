"""Texts of item fields of any plain type: the same for equal values of any writer."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from llmrec.errors import ConfigError

EXACT = 2**53  # whole numbers below it are exact as fractions


def is_text(kind: pa.DataType) -> bool:
    """Check if a column holds text.

    Args:
        kind: Type of the column.

    Returns:
        True for strings, and for dictionaries of strings.
    """
    if pa.types.is_dictionary(kind):
        return is_text(kind.value_type)
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def format_field(field: str, table: pa.Table) -> pa.LargeStringArray:
    """Convert the values of a field to text.

    Args:
        field: Name of the column.
        table: Table of items, N rows.

    Returns:
        Texts, (N,); null where the value is null, NaN, empty or blank.

    Raises:
        ConfigError: If the type of the column has no text.
    """
    if field not in table.column_names:
        return pa.nulls(table.num_rows, pa.large_string())
    column = table[field]
    try:
        text = format_values(pa.concat_arrays(column.chunks or [pa.nulls(0, column.type)]))
    except pa.ArrowException as error:
        raise ConfigError(f"item column '{field}': type {column.type} has no text. {_advise(column.type)}") from error
    text = pc.utf8_trim_whitespace(text)
    return pc.if_else(pc.equal(text, pa.scalar("", pa.large_string())), None, text)


def _advise(kind: pa.DataType) -> str:
    if pa.types.is_nested(kind):
        return "Its values are objects: write the part that you need as a column of its own, or name another column."
    return "Name another column."


def format_values(values: pa.Array) -> pa.LargeStringArray:
    """Convert values to text: 1995.0 is "1995", 12.99 in single precision is "12.99", midnight is its date.

    Args:
        values: Values of a plain type, (N,).

    Returns:
        Texts, (N,); lists are joined by ", ", nulls in them are left out.

    Raises:
        pa.ArrowException: If the type has no text.
    """
    kind = values.type
    if pa.types.is_dictionary(kind):
        return format_values(values.dictionary).take(values.indices)
    if pa.types.is_floating(kind):
        return _format_floats(values)
    if pa.types.is_timestamp(kind):
        return _format_timestamps(values)
    if pa.types.is_time(kind):
        return _trim_fraction(values.cast(pa.large_string()))
    if pa.types.is_date64(kind):
        return values.cast(pa.date32()).cast(pa.large_string())
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        lists = format_entries(pa.chunked_array([values]))
        return pc.binary_join(lists, pa.scalar(", ", pa.large_string()))
    return values.cast(pa.large_string())


def _format_floats(values: pa.Array) -> pa.LargeStringArray:
    numbers = np.asarray(values.cast(pa.float64()))
    whole = np.abs(numbers) < EXACT
    whole &= np.floor(numbers) == numbers
    integers = pa.array(np.where(whole, numbers, 0).astype(np.int64)).cast(pa.large_string())
    if pa.types.is_float16(values.type):  # arrow would write the digits of a wider type
        others = pa.array(numbers.astype(np.float16).astype(str).tolist(), pa.large_string())
    else:
        others = pc.if_else(pc.is_nan(values), None, values).cast(pa.large_string())
    return pc.if_else(pa.array(np.isnan(numbers)), None, pc.if_else(pa.array(whole), integers, others))


def _format_timestamps(values: pa.Array) -> pa.LargeStringArray:
    """Write times without the zeros of a clock that is finer than the times; those with a zone in UTC."""
    text = _trim_fraction(values.cast(pa.timestamp(values.type.unit)).cast(pa.large_string()))
    if values.type.tz is None:
        return pc.replace_substring_regex(text, " 00:00:00$", "")
    return pc.binary_join_element_wise(text, pa.scalar("Z", pa.large_string()), pa.scalar("", pa.large_string()))


def _trim_fraction(text: pa.LargeStringArray) -> pa.LargeStringArray:
    return pc.replace_substring_regex(pc.replace_substring_regex(text, r"(\.\d*?)0+$", r"\1"), r"\.$", "")


def format_entries(column: pa.ChunkedArray) -> pa.LargeListArray:
    """Convert the entries of lists to text.

    Args:
        column: Lists, (N,).

    Returns:
        Lists of text without nulls and blanks, (N,).
    """
    lists = pa.concat_arrays(column.chunks or [pa.nulls(0, column.type)])
    inner = pc.utf8_trim_whitespace(format_values(lists.flatten()))
    inner = pc.if_else(pc.equal(inner, pa.scalar("", pa.large_string())), None, inner)
    lengths = np.asarray(pc.fill_null(pc.list_value_length(lists), 0)).astype(np.int64)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    kept = np.concatenate([[0], np.cumsum(np.asarray(inner.is_valid()), dtype=np.int64)])
    return pa.LargeListArray.from_arrays(kept[offsets], inner.drop_null(), mask=lists.is_null())
