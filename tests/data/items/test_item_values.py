"""Values of new items: one rule for each pair of what is given and what the column holds."""

from __future__ import annotations

from datetime import date, datetime, time, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmrec.data.items.item_values import build_item_column
from llmrec.data.texts.field_texts import format_values

TEXT, LIST = pa.large_string(), pa.large_list(pa.large_string())
NOON = datetime(2020, 1, 1, 12)
FITTING: list[tuple[Any, pa.DataType, Any]] = [
    ("Sci-Fi, Drama", LIST, ["Sci-Fi", "Drama"]),
    (["Sci-Fi", None, "Drama"], LIST, ["Sci-Fi", None, "Drama"]),
    (7, LIST, ["7"]),
    (["a", 2.0], TEXT, "a, 2"),
    (12.0, TEXT, "12"),
    (True, TEXT, "true"),
    (np.float32(12.99), TEXT, "12.99"),
    (np.array([0.1, 12.99], np.float32), TEXT, "0.1, 12.99"),
    (np.datetime64("2020-01-01T12:00:00.5", "ns"), TEXT, "2020-01-01 12:00:00.5"),
    (2**70, TEXT, "1180591620717411303424"),
    (UUID(int=1), TEXT, "00000000-0000-0000-0000-000000000001"),
    (date(2020, 1, 1), TEXT, "2020-01-01"),
    ("12", pa.int64(), 12),
    (12.0, pa.int32(), 12),
    (np.int64(3), pa.int8(), 3),
    ("9.50", pa.float64(), 9.5),
    (3, pa.float32(), 3.0),
    ("9.99", pa.decimal128(9, 2), Decimal("9.99")),
    (9.99, pa.decimal128(9, 2), Decimal("9.99")),
    ("2020-01-01", pa.date32(), date(2020, 1, 1)),
    ("1950-01-01", pa.date32(), date(1950, 1, 1)),
    ("2020-01-01T13:00:00+01:00", pa.timestamp("us"), NOON),
    (1_577_880_000, pa.timestamp("s", "UTC"), NOON.replace(tzinfo=timezone.utc)),
    ("09:30", pa.time32("s"), time(9, 30)),
    ("true", pa.bool_(), True),
    ("a", pa.dictionary(pa.int8(), pa.string()), "a"),
    (["1", 2], pa.large_list(pa.int64()), [1, 2]),
    (float("nan"), TEXT, None),
    ("  ", pa.int64(), None),
]
WRONG: list[tuple[Any, pa.DataType]] = [
    ("late", pa.int64()),
    (12.5, pa.int64()),
    (True, pa.int64()),
    (["a"], pa.int64()),
    ({"a": 1}, TEXT),
    (1, pa.bool_()),
    ("soon", pa.date32()),
    ("12", pa.date32()),
    (12, pa.date32()),
    (9, pa.time32("s")),
    ([], pa.time64("us")),
    (300, pa.int8()),
    ({"a": 1}, LIST),
    ("x", pa.decimal128(9, 2)),
    (True, pa.float64()),
]


@pytest.mark.parametrize(("value", "kind", "wanted"), FITTING)
def test_values_that_fit(value: Any, kind: pa.DataType, wanted: Any) -> None:
    assert build_item_column([value, None], kind).to_pylist() == [wanted, None]


@pytest.mark.parametrize(("value", "kind"), WRONG)
def test_values_that_do_not_fit_are_refused(value: Any, kind: pa.DataType) -> None:
    with pytest.raises(pa.ArrowInvalid):
        build_item_column([value], kind)


WORDS = st.text(st.sampled_from("abc-"), min_size=1, max_size=5)
VALUES = st.one_of(
    WORDS, st.integers(-99, 99), st.booleans(), st.floats(-9, 9).map(lambda x: round(x, 2)), st.lists(WORDS, min_size=1)
)


@settings(deadline=None)
@given(VALUES)
def test_text_and_lists_of_one_value_read_the_same(value: Any) -> None:
    assert format_values(build_item_column([value], LIST)).to_pylist() == build_item_column([value], TEXT).to_pylist()
