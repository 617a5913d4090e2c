"""Columns are guessed by name, then by type, and left out where nothing fits."""

import pyarrow as pa
import pytest

from llmrec.data.column_mapping import guess_columns

TEXT, NUMBER, MOMENT = pa.string(), pa.int64(), pa.timestamp("us")


@pytest.mark.parametrize(
    ("events", "items", "expected"),
    [
        pytest.param(
            {"user": TEXT, "user_id": TEXT, "item_id": TEXT, "timestamp": NUMBER},
            {"item_id": TEXT, "title": TEXT},
            ["user_id", "item_id", "timestamp", "item_id", "{title}"],
            id="the default names before others",
        ),
        pytest.param(
            {"Customer ID": NUMBER, "StockCode": TEXT, "InvoiceDate": MOMENT},
            {"StockCode": TEXT, "Description": TEXT},
            ["Customer ID", "StockCode", "InvoiceDate", "StockCode", "{Description}"],
            id="spelled in other ways",
        ),
        pytest.param(
            {"reader": TEXT, "volume": TEXT, "borrowed": MOMENT},
            {"volume": TEXT, "name": pa.dictionary(pa.int8(), TEXT), "mainCategory": pa.list_(TEXT), "tags": NUMBER},
            ["volume", "borrowed", "volume", "{name}. Main category: {mainCategory}"],
            id="by the other table and by type; the user is left out",
        ),
        pytest.param(
            {"userId": NUMBER, "movieId": NUMBER, "a": MOMENT, "b": MOMENT},
            {"id": NUMBER, "year": NUMBER},
            ["userId", "movieId", "id"],
            id="neither one of two times nor a number as text",
        ),
    ],
)
def test_columns_are_guessed_by_name_and_type(events: dict, items: dict, expected: list[str]) -> None:
    assert [guess.value for guess in guess_columns(pa.schema(events), pa.schema(items))] == expected
