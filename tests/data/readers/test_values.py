"""Types that mean something else than they store."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from llmrec.config.data import DataConfig
from llmrec.data.loading import load_log
from llmrec.data.readers.values import NoPlainValueError, normalize_column, normalize_table

SPAN = timedelta(minutes=1, seconds=30)


@pytest.mark.parametrize(
    ("array", "values"),
    [
        (pa.array([SPAN, None], pa.duration("ns")), ["0:01:30", None]),
        (pa.array([SPAN], pa.duration("s")), ["0:01:30"]),
        (pa.ExtensionArray.from_storage(pa.bool8(), pa.array([1, 0], pa.int8())), [True, False]),
        (pa.array([b"abcd", b"\xc3\xa9ef"], pa.binary(4)), ["abcd", "\u00e9ef"]),
        (pa.array([{"$oid": "5f"}, None]), ["5f", None]),
        (pa.array([[{"$oid": "5f"}], []]), [["5f"], []]),
    ],
)
def test_values_are_those_that_the_type_means(array: pa.Array, values: list[object]) -> None:
    assert normalize_column(pa.chunked_array([array])).to_pylist() == values


def test_periods_of_pandas_are_no_counts() -> None:
    months = pd.period_range("2024-01", periods=2, freq="M")
    events = pd.DataFrame({"user_id": ["a", "b"], "item_id": ["1", "2"], "timestamp": months})
    items = pd.DataFrame({"item_id": ["1", "2"], "title": ["A", "B"], "month": months})
    log = load_log(DataConfig(text_template="{title}, {month}"), (events, items))
    assert log.catalog.list_texts() == ["A, 2024-01", "B, 2024-02"]
    assert log.interactions.time.tolist() == np.array(["2024-01", "2024-02"], "datetime64[s]").astype(int).tolist()
    with pytest.raises(NoPlainValueError):
        normalize_column(pa.chunked_array([pa.Array.from_pandas(months)]))
    stored = pa.field("month", pa.int64(), metadata={"ARROW:extension:name": "pandas.period"})
    assert normalize_table(pa.table({"month": [648, 649]}, pa.schema([stored])), wanted=()).num_columns == 0
