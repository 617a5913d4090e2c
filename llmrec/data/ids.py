"""Ids of any type, as strings: encoded once, so that ten million events need no Python object each."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from llmrec.data.faults import Fault
from llmrec.data.interactions import Mask, Rows

# What a missing id becomes when it is written as text; a real id of such a name cannot be told from it.
MISSING_SPELLINGS = ("", "nan", "NaN", "None", "<NA>", "NaT", "null")


class EncodedIds(NamedTuple):
    """codes: (E,) rows of `ids`, -1 where faulty; ids: (n,) distinct ids, in order of appearance."""

    codes: Rows
    ids: pa.LargeStringArray
    faults: list[Fault]


def encode_ids(column: pa.ChunkedArray) -> EncodedIds:
    """Distinct ids of a column (E,) of strings, integers or whole floats: 12, 12.0 and "12" are all "12".

    Text of which every id ends in ".0" was written from floats, and is read as whole numbers.
    """
    codes, values = _distinct(column)
    names, unusable = _names(values)
    missing = np.asarray(pc.fill_null(pc.is_in(names, value_set=_missing()), False)) | np.asarray(pc.is_null(names))
    again, ids = _distinct(pa.chunked_array([pc.if_else(pa.array(missing | unusable), None, names)]))
    # One more entry at the end stands for null, whose code is -1.
    unusable, missing = np.append(unusable, False), np.append(missing, True)
    faults = [
        Fault("missing id", (missing & ~unusable)[codes], "give every row an id, or remove the row"),
        Fault("unusable id", unusable[codes], "write ids as text or whole numbers"),
    ]
    return EncodedIds(np.append(again, -1)[codes], ids, faults)


def _missing() -> pa.LargeStringArray:
    return pa.array(MISSING_SPELLINGS, pa.large_string())


def _distinct(column: pa.ChunkedArray) -> tuple[Rows, pa.Array]:
    """(E,) codes, -1 for null, and the distinct values."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_string(column.type) or pa.types.is_null(column.type):
        column = column.cast(pa.large_string())
    encoded = pa.concat_arrays(column.chunks or [pa.array([], column.type)]).dictionary_encode()
    return np.asarray(encoded.indices.fill_null(-1)).astype(np.int64), encoded.dictionary


def _names(values: pa.Array) -> tuple[pa.LargeStringArray, Mask]:
    """(n,) values as strings, null where missing, and (n,) True where they can be no id."""
    usable = np.zeros(len(values), dtype=np.bool_)
    if pa.types.is_floating(values.type):
        numbers = np.asarray(values.cast(pa.float64()))
        broken = ~np.isnan(numbers) & ((np.floor(numbers) != numbers) | (np.abs(numbers) > 2**53))
        whole = pa.array(np.where(broken, 0, numbers), from_pandas=True)
        return whole.cast(pa.int64()).cast(pa.large_string()), broken
    if pa.types.is_integer(values.type):
        return values.cast(pa.large_string()), usable
    if pa.types.is_large_string(values.type):
        present = values.filter(pc.invert(pc.is_in(values, value_set=_missing())))
        from_floats = len(present) > 0 and pc.all(pc.match_substring_regex(present, r"^-?\d+\.0+$")).as_py()
        return (pc.replace_substring_regex(values, r"\.0+$", "") if from_floats else values), usable
    return pa.nulls(len(values), pa.large_string()), ~usable
