"""Arrow columns of any writer as one of a few plain types: text, numbers, truth, dates, times and flat lists of them.

Types that mean the same become the same: string views are strings, UUIDs are their text, lists of fixed size and lists
of lists are lists, class labels are their names, binary columns that hold text are text.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

CONTROL = r"[\x00-\x08\x0e-\x1f]"  # signs that bytes have and text lacks
TYPE_MARK = "$"  # first sign of {"$date": ...} and {"$oid": ...}, as MongoDB writes values of these types
COUNTED = ("pandas.period", "pandas.interval")  # stored as counts of a unit that the type names
Features = Mapping[str, Any]  # description of columns by Hugging Face datasets, by column name


class NoPlainValueError(Exception):
    """Values of a type that has no plain form, such as structs."""


def normalize_table(table: pa.Table, *, wanted: Collection[str], features: Features | None = None) -> pa.Table:
    """Convert the columns of a table to plain types; others, and doubled ones, are left out unless wanted.

    Args:
        table: The table.
        wanted: Columns that stay even if they have no plain form, so that a check can name them.
        features: Descriptions of columns by Hugging Face datasets; None for those in the metadata of the table.

    Returns:
        A table without metadata.
    """
    features = read_features(table.schema.metadata) if features is None else features
    columns = []
    names = table.column_names
    for field, column in zip(table.schema, table.columns, strict=True):
        if names.count(field.name) > 1 and field.name not in wanted:
            continue
        try:
            if (field.metadata or {}).get(b"ARROW:extension:name", b"").decode() in COUNTED:
                raise NoPlainValueError(field.name)
            columns.append((field.name, normalize_column(column, features.get(field.name))))
        except NoPlainValueError:
            if field.name in wanted:
                columns.append((field.name, column))
    return pa.table([column for _, column in columns], names=[name for name, _ in columns])


def read_features(metadata: Mapping[bytes, bytes] | None) -> Features:
    """Read the descriptions of columns that Hugging Face datasets stores in the metadata of a file.

    Args:
        metadata: Metadata of a schema.

    Returns:
        Description of each column, by name; empty if there are none.
    """
    try:
        stored = json.loads((metadata or {}).get(b"huggingface", b"{}"))
        return dict(stored.get("info", {}).get("features") or {})
    except (ValueError, AttributeError, TypeError):  # metadata of another kind under this name
        return {}


def normalize_column(column: pa.ChunkedArray, feature: Any = None) -> pa.ChunkedArray:
    """Convert a column to a plain type.

    Args:
        column: The column, (N,).
        feature: Its description by Hugging Face datasets; None if there is none.

    Returns:
        The column, (N,); the same object if its type is plain.

    Raises:
        NoPlainValueError: If its type has no plain form.
    """
    if feature is None and _is_plain(column.type):
        return column
    return pa.chunked_array([_normalize(chunk, feature) for chunk in column.chunks or [pa.nulls(0, column.type)]])


def _is_plain(kind: pa.DataType) -> bool:
    if isinstance(kind, pa.DictionaryType):
        kind = kind.value_type
    return bool(
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_integer(kind)
        or pa.types.is_floating(kind) or pa.types.is_boolean(kind) or pa.types.is_null(kind) or pa.types.is_date(kind)
        or pa.types.is_decimal(kind) or pa.types.is_timestamp(kind) or pa.types.is_time(kind)
    )  # fmt: skip


def _normalize(values: pa.Array, feature: Any) -> pa.Array:
    names = feature.get("names") if isinstance(feature, dict) else None
    if isinstance(names, list) and pa.types.is_integer(values.type):
        return _name_classes(values, names)
    kind = values.type
    if _is_plain(kind):
        return values
    if isinstance(kind, pa.BaseExtensionType):
        return _normalize_extension(values, feature)
    if pa.types.is_run_end_encoded(kind):
        return _normalize(pc.run_end_decode(values), feature)
    if pa.types.is_dictionary(kind):
        inner = _normalize(values.dictionary, feature)
        return pa.DictionaryArray.from_arrays(values.indices, inner) if _is_plain(inner.type) else inner.take(
            values.indices
        )  # fmt: skip
    if pa.types.is_string_view(kind):
        return values.cast(pa.large_string())
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind):
        return _decode_text(values)
    if pa.types.is_fixed_size_binary(kind):
        return _decode_text(values.cast(pa.binary()))
    if pa.types.is_duration(kind):
        spans = values.cast(pa.duration("us"), safe=False).to_pylist()
        return pa.array([None if span is None else str(span) for span in spans], pa.large_string())
    if _is_list(kind):
        return _flatten(values, feature)
    if pa.types.is_struct(kind) and kind.num_fields == 1 and kind.field(0).name.startswith(TYPE_MARK):
        return _normalize(values.flatten()[0], feature)
    raise NoPlainValueError(str(kind))


def _normalize_extension(values: pa.ExtensionArray, feature: Any) -> pa.Array:
    name = values.type.extension_name
    if name == "arrow.uuid":
        return _format_uuids(values)
    if name == "arrow.bool8":
        return values.storage.cast(pa.bool_())
    if name in COUNTED:
        raise NoPlainValueError(name)
    return _normalize(values.storage, feature)


def _is_list(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
        or pa.types.is_list_view(kind) or pa.types.is_large_list_view(kind)
    )  # fmt: skip


def _name_classes(values: pa.Array, names: list[str]) -> pa.Array:
    """Replace class numbers by their names; -1 means no class."""
    codes = np.asarray(values.cast(pa.int64()).fill_null(-1))
    known = (codes >= 0) & (codes < len(names))
    return pa.array(names, pa.large_string()).take(pa.array(np.where(known, codes, 0), mask=~known))


def _format_uuids(values: pa.Array) -> pa.Array:
    texts = [None if value is None else str(uuid.UUID(bytes=value)) for value in values.storage.to_pylist()]
    return pa.array(texts, pa.large_string())


def _decode_text(values: pa.Array) -> pa.Array:
    """Return the text of bytes, as writers store it that do not mark text."""
    try:
        text = values.cast(pa.large_binary()).cast(pa.large_string())
    except pa.ArrowInvalid as error:
        raise NoPlainValueError(str(values.type)) from error
    if pc.any(pc.match_substring_regex(text, CONTROL)).as_py():
        raise NoPlainValueError(str(values.type))
    return text


def _flatten(values: pa.Array, feature: Any) -> pa.Array:
    """Return lists of any kind, also of lists, as flat lists."""
    kind = values.type
    if pa.types.is_list_view(kind) or pa.types.is_large_list_view(kind):
        values = _from_list_view(values)
    inner = _normalize(values.flatten(), _get_entry_feature(feature))
    lengths = np.asarray(pc.fill_null(pc.list_value_length(values), 0)).astype(np.int64)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    if pa.types.is_large_list(inner.type):
        offsets, inner = np.asarray(inner.offsets)[offsets], inner.values
    elif pa.types.is_dictionary(inner.type):
        inner = inner.dictionary_decode()
    return pa.LargeListArray.from_arrays(offsets, inner, mask=values.is_null())


def _from_list_view(values: pa.Array) -> pa.Array:
    lengths = np.asarray(pc.fill_null(pc.list_value_length(values), 0)).astype(np.int64)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return pa.LargeListArray.from_arrays(offsets, values.flatten(), mask=values.is_null())


def _get_entry_feature(feature: Any) -> Any:
    """Return the description of a list's entries, of which datasets has had several spellings."""
    if isinstance(feature, list):
        return feature[0] if feature else None
    return feature.get("feature") if isinstance(feature, dict) else None
