"""Ids of every type become strings; what can be no id is named."""

from __future__ import annotations

from decimal import Decimal
from uuid import UUID

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmrec.data.ids import encode_ids, format_id
from llmrec.errors import DataError


@pytest.mark.parametrize(
    ("values", "ids", "codes"),
    [
        (["b", "a", "b"], ["b", "a"], [0, 1, 0]),
        ([12, 7, 12], ["12", "7"], [0, 1, 0]),
        ([12.0, 7.0], ["12", "7"], [0, 1]),
        (["12.0", "7.0"], ["12", "7"], [0, 1]),
        (["12.0", "7"], ["12.0", "7"], [0, 1]),
        (["007", "7"], ["007", "7"], [0, 1]),
        (pa.array(["b", None, "b"]).dictionary_encode(), ["b"], [0, -1, 0]),
        (pa.array([], pa.string()), [], []),
    ],
)
def test_ids_as_strings(values: object, ids: list[str], codes: list[int]) -> None:
    encoded = encode_ids(pa.chunked_array([pa.array(values)]))
    assert (encoded.ids.to_pylist(), encoded.codes.tolist()) == (ids, codes)


@pytest.mark.parametrize(
    ("values", "missing", "unusable"),
    [
        (["a", None, "", "nan", "NaN", "None", "<NA>"], [1, 2, 3, 4, 5, 6], []),
        (["12.0", "", "7.0"], [1], []),
        ([1, None], [1], []),
        ([12.0, float("nan"), None, 2.5, float("inf")], [1, 2], [3, 4]),
        ([None, None], [0, 1], []),
        ([True], [], [0]),
    ],
)
def test_what_is_no_id(values: list[object], missing: list[int], unusable: list[int]) -> None:
    encoded = encode_ids(pa.chunked_array([pa.array(values)]))
    found = [np.flatnonzero(fault.rows).tolist() for fault in encoded.faults]
    assert found == [missing, unusable]
    assert np.flatnonzero(encoded.codes < 0).tolist() == sorted(missing + unusable)


def test_ids_across_chunks() -> None:
    encoded = encode_ids(pa.chunked_array([["a", "b"], ["b", "c"]]))
    assert (encoded.ids.to_pylist(), encoded.codes.tolist()) == (["a", "b", "c"], [0, 1, 1, 2])


def test_encoded_ids_are_numbered_by_appearance_and_without_what_no_row_has() -> None:
    one = pa.DictionaryArray.from_arrays(pa.array([2, 0, None], pa.int8()), ["b", "unused", "a"])
    other = pa.DictionaryArray.from_arrays(pa.array([1, 0], pa.int8()), ["c", "b"])
    encoded = encode_ids(pa.chunked_array([one, other]))
    assert (encoded.ids.to_pylist(), encoded.codes.tolist()) == (["a", "b", "c"], [0, 1, -1, 1, 2])
    twice = pa.DictionaryArray.from_arrays(pa.array([0, 1, 2]), ["7", "7", "nan"])
    encoded = encode_ids(pa.chunked_array([twice]))
    assert (encoded.ids.to_pylist(), encoded.codes.tolist()) == (["7"], [0, 0, -1])


SPELLINGS = [int, float, np.int64, np.uint64, np.float64, Decimal, pa.scalar, str, np.str_]


@given(st.integers(0, 2**53), st.sampled_from(SPELLINGS), st.sampled_from(SPELLINGS))
def test_an_id_is_one_in_every_spelling(number: int, asked: type, logged: type) -> None:
    column = logged(number)
    column = pa.array([column.as_py() if isinstance(column, pa.Scalar) else column])
    assert encode_ids(pa.chunked_array([column])).ids.to_pylist() == [format_id(asked(number))]


@given(st.one_of(st.text(min_size=1), st.uuids()))
def test_text_and_uuids_are_as_they_are(value: str | UUID) -> None:
    assert format_id(value) == format_id(pa.scalar(str(value))) == str(value)


@pytest.mark.parametrize(
    "value", [True, None, 1.5, float("nan"), float("inf"), Decimal("NaN"), 2.0**60, b"1", np.datetime64("2020-01-01")]
)
def test_what_is_no_id_is_refused(value: object) -> None:
    with pytest.raises(DataError, match="is no id"):
        format_id(value)
