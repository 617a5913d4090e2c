"""Item tables with ids as strings and release times as timestamps, and the problems found in them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from llmrec.data.ids import encode_ids
from llmrec.data.problems import ColumnProblem, format_problems
from llmrec.data.templates import TemplateField, render
from llmrec.data.timestamps import EARLY, TimeUnit, parse_times
from llmrec.utils.arrays import Mask


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


def build_item_column(values: Sequence[object], kind: pa.DataType | None) -> pa.Array:
    """Build a column from Python values; in text columns, lists are joined by ", ".

    Args:
        values: Values, (n,).
        kind: Type of the column; None lets Arrow choose.

    Returns:
        The column, (n,).

    Raises:
        pa.ArrowInvalid: If a value does not fit the type.
        pa.ArrowTypeError: If a value does not fit the type.
    """
    if kind is not None and not pa.types.is_large_string(kind) and not pa.types.is_string(kind):
        return pa.array(values, kind)
    if kind is None and not {type(value) for value in values} & {str}:
        return pa.array(values)
    texts = [", ".join(map(str, v)) if isinstance(v, (list, tuple)) else None if v is None else str(v) for v in values]
    return pa.array(texts, kind or pa.large_string())


def normalize_item_table(
    file: str, table: pa.Table, id_column: str, release_column: str | None, time_unit: TimeUnit, timezone: str
) -> tuple[pa.Table, list[str]]:
    """Convert ids to strings and release times to timestamps, and report what is wrong with either.

    Args:
        file: Name of the table in messages.
        table: Table of items, N rows.
        id_column: Name of the column of ids.
        release_column: Name of the column of release times; None if there is none.
        time_unit: Unit of numeric release times.
        timezone: Time zone of release times that carry none.

    Returns:
        The converted table and its problems, one line each.
    """
    encoded = encode_ids(table[id_column])
    doubled = np.ones(len(encoded.codes), dtype=np.bool_)
    doubled[np.unique(encoded.codes, return_index=True)[1]] = False
    faults = [
        *encoded.faults,
        ColumnProblem("duplicate item id", doubled & (encoded.codes >= 0), "Keep one row for each item"),
    ]
    problems = format_problems(file, id_column, table[id_column], faults)
    ids = encoded.ids.take(pa.array(encoded.codes, mask=encoded.codes < 0))
    table = table.set_column(table.column_names.index(id_column), id_column, ids)
    if release_column is not None:
        stamps, found = _parse_release_times(file, release_column, table[release_column], time_unit, timezone)
        table = table.set_column(table.column_names.index(release_column), release_column, stamps)
        problems += found
    return table, problems


def _parse_release_times(
    file: str, name: str, released: pa.ChunkedArray, time_unit: TimeUnit, timezone: str
) -> tuple[pa.Array, list[str]]:
    """Parse release times to timestamp[s, UTC] (N,), null where an item has none."""
    absent = np.asarray(pc.is_null(released, nan_is_null=True))
    if pa.types.is_string(released.type) or pa.types.is_large_string(released.type):
        absent = absent | np.asarray(pc.fill_null(pc.equal(pc.utf8_length(pc.utf8_trim_whitespace(released)), 0), True))
    times = parse_times(released.filter(pa.array(~absent)), time_unit, timezone)
    # Items may be older than 1970.
    faults = [fault._replace(rows=_expand_mask(fault.rows, ~absent)) for fault in times.faults if fault.what != EARLY]
    seconds = np.zeros(len(absent), dtype=np.int64)
    seconds[~absent] = times.seconds
    stamps = pa.array(seconds, mask=absent).cast(pa.timestamp("s", "UTC"))
    return stamps, format_problems(file, name, released, faults)


def _expand_mask(rows: Mask, onto: Mask) -> Mask:
    """Expand a mask over the True entries of `onto` to a mask over all entries."""
    spread = np.zeros(len(onto), dtype=np.bool_)
    spread[onto] = rows
    return spread


def find_empty_texts(parts: Sequence[TemplateField], table: pa.Table) -> ColumnProblem:
    """Find the items that the template leaves without text.

    Args:
        parts: Parsed template.
        table: Table of items, N rows.

    Returns:
        The problem, with its rows as a mask, (N,).
    """
    names = ", ".join(part.field for part in parts)
    empty = np.asarray(pc.equal(render(parts, table), pa.scalar("", pa.large_string())))
    return ColumnProblem("item with an empty text", empty, f"Fill one of {names}, or name more fields in text_template")
