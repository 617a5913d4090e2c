"""Ids of any type as strings, encoded once so that ten million events need no Python object each."""

from __future__ import annotations

import math
from collections.abc import Collection
from decimal import Decimal
from numbers import Real
from typing import Any, NamedTuple, TypeAlias, TypeGuard
from uuid import UUID

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from llmrec.config.data import MISSING_WORDS
from llmrec.data.problems import ColumnProblem
from llmrec.errors import DataError
from llmrec.utils.arrays import Mask

Codes = NDArray[np.int32]  # half the memory of rows; no log has two thousand million distinct ids
Id: TypeAlias = "str | int | float | Decimal | UUID | np.generic | pa.Scalar"  # as a log or data frame has it
LARGEST_WHOLE = 2**53  # beyond it, floats skip whole numbers


class EncodedIds(NamedTuple):
    """Ids of a column, encoded as rows of the distinct ones."""

    codes: Codes
    """Row in `ids` of each event, -1 where the id is faulty, (E,)."""
    ids: pa.LargeStringArray
    """Distinct ids in order of appearance, (n,)."""
    faults: list[ColumnProblem]
    """Missing and unusable ids."""


def encode_ids(column: pa.ChunkedArray, *, missing_words: Collection[str] = MISSING_WORDS) -> EncodedIds:
    """Encode a column of strings, integers or whole fractions: 12, 12.0 and "12" are all "12".

    Text in which every id ends in ".0" was written from floats, and is read as whole numbers.

    Args:
        column: Ids, (E,).
        missing_words: Words that stand for a missing id; a real id of such a name is indistinguishable from it.

    Returns:
        Codes, distinct ids and faults.
    """
    codes, values = _encode_column(column)
    words = pa.array(sorted({"", *missing_words}), pa.large_string())
    names, unusable = _convert_to_strings(values, words)
    spelled = pc.is_in(pc.utf8_trim_whitespace(names), value_set=words)
    missing = np.asarray(pc.fill_null(spelled, fill_value=False)) | np.asarray(pc.is_null(names))
    again, ids = _encode_column(pa.chunked_array([pc.if_else(pa.array(missing | unusable), None, names)]))
    # An extra entry at the end represents null, whose code is -1.
    unusable, missing = np.append(unusable, False), np.append(missing, bool((codes < 0).any()))
    faults = [
        ColumnProblem(
            "missing id", _mask_of_codes(missing & ~unusable, codes), "Give every row an id, or remove the row"
        ),
        ColumnProblem("unusable id", _mask_of_codes(unusable, codes), "Write ids as text or whole numbers"),
    ]
    if not np.array_equal(again, np.arange(len(values))):
        codes = np.append(again, np.int32(-1))[codes]
    return EncodedIds(codes, ids, faults)


def is_id(value: object) -> TypeGuard[Id]:
    """Return whether a value has a type that ids may have.

    Args:
        value: Any value.

    Returns:
        True for text, numbers, UUIDs, and values of NumPy and Arrow.
    """
    return isinstance(value, (str, Real, Decimal, UUID, np.generic, pa.Scalar))


def format_id(value: object) -> str:
    """Return the spelling of an id that `encode_ids` gives the same id in a log: 12, 12.0 and "12" are all "12".

    Args:
        value: Id.

    Returns:
        The id as text.

    Raises:
        DataError: If it is neither text nor a whole number.

    Example:
        >>> format_id(np.int64(12)), format_id(12.0), format_id("12")
        ('12', '12', '12')
    """
    if type(value) is str:
        return value
    plain: Any = (
        value.as_py() if isinstance(value, pa.Scalar) else value.item() if isinstance(value, np.generic) else value
    )
    if isinstance(plain, (str, UUID)):
        return str(plain)
    if isinstance(plain, int) and not isinstance(plain, bool):
        return str(plain)
    if (
        isinstance(plain, (float, Decimal))
        and math.isfinite(plain)
        and -LARGEST_WHOLE <= plain <= LARGEST_WHOLE
        and plain == int(plain)
    ):
        return str(int(plain))
    raise DataError("id", [f"{value!r} is no id. Write it as text or as a whole number, as the log has it."])


def _mask_of_codes(flags: Mask, codes: Codes) -> Mask:
    """Return the flag of each code, (E,); if none is set, zeros that take no memory until written."""
    return flags[codes] if flags.any() else np.zeros(len(codes), dtype=np.bool_)


def _encode_column(column: pa.ChunkedArray) -> tuple[Codes, pa.Array]:
    """Encode a column as codes (E,), -1 for null, and values by appearance, distinct unless pre-encoded."""
    if pa.types.is_dictionary(column.type):
        return _order_by_appearance(*_decode_dictionary(column.unify_dictionaries()))
    if pa.types.is_string(column.type) or pa.types.is_string_view(column.type) or pa.types.is_null(column.type):
        column = column.cast(pa.large_string())
    try:
        return _decode_dictionary(column.dictionary_encode())
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid):  # lists, structs and so on, which are no ids
        absent = np.asarray(column.is_null())
        return np.where(absent, -1, 0).astype(np.int32), pa.array([True][: int(not absent.all())])


def _decode_dictionary(encoded: pa.ChunkedArray) -> tuple[Codes, pa.Array]:
    """Return the codes (E,) of a column whose chunks share one dictionary, and that dictionary."""
    kind = encoded.type.value_type
    values = encoded.chunk(0).dictionary if encoded.num_chunks else pa.array([], kind)
    parts = [np.asarray(chunk.indices.cast(pa.int32()).fill_null(-1)) for chunk in encoded.chunks]
    return np.concatenate([np.zeros(0, dtype=np.int32), *parts]), (
        values.cast(pa.large_string()) if pa.types.is_string(kind) else values
    )


def _order_by_appearance(codes: Codes, values: pa.Array) -> tuple[Codes, pa.Array]:
    """Drop values without a code, and order the rest by their first one."""
    seen = np.asarray(pc.unique(pa.array(codes)))
    seen = seen[seen >= 0]
    if np.array_equal(seen, np.arange(len(values))):
        return codes, values
    new = np.full(len(values) + 1, -1, dtype=np.int32)  # the last entry represents null
    new[seen] = np.arange(len(seen))
    return new[codes], values.take(pa.array(seen))


def _convert_to_strings(values: pa.Array, missing: pa.LargeStringArray) -> tuple[pa.LargeStringArray, Mask]:
    """Convert values (n,) to strings, null where missing, and mark those that cannot be ids (n,)."""
    usable = np.zeros(len(values), dtype=np.bool_)
    if pa.types.is_decimal(values.type):
        names = pc.replace_substring_regex(values.cast(pa.large_string()), r"\.0+$", "")
        broken = np.asarray(pc.fill_null(pc.match_substring_regex(names, "[.E]"), fill_value=False))
        return pc.if_else(pa.array(broken), None, names), broken
    if pa.types.is_floating(values.type):
        numbers = np.asarray(values.cast(pa.float64()))
        broken = ~np.isnan(numbers) & ((np.floor(numbers) != numbers) | (np.abs(numbers) > 2**53))
        whole = pa.array(np.where(broken, 0, numbers), from_pandas=True)
        return whole.cast(pa.int64()).cast(pa.large_string()), broken
    if pa.types.is_integer(values.type):
        return values.cast(pa.large_string()), usable
    if pa.types.is_large_string(values.type):
        present = values.filter(pc.invert(pc.is_in(values, value_set=missing)))
        from_floats = (
            len(present) > 0
            and all(  # the first value decides for most columns
                pc.all(pc.match_substring_regex(some, r"^-?\d+\.0+$")).as_py() for some in (present[:1], present)
            )
        )
        return (pc.replace_substring_regex(values, r"\.0+$", "") if from_floats else values), usable
    return pa.nulls(len(values), pa.large_string()), ~usable
