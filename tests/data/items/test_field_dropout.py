"""Second texts: some fields or words are left out, never all, and the seed decides which."""

import re

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from llmrec.data.items.catalog import ItemCatalog
from llmrec.data.items.field_dropout import drop_fields

TABLE = pa.table(
    {
        "item_id": pa.array([f"i{row}" for row in range(60)], pa.large_string()),
        "title": [f"title{row} of words" for row in range(60)],
        "brand": [f"brand{row}" if row % 7 else None for row in range(60)],
        "year": list(range(1960, 2020)),
    }
)


@given(share=st.floats(0, 0.9), seed=st.integers(0, 5))
def test_a_text_has_some_of_its_fields_in_their_order(share: float, seed: int) -> None:
    catalog = ItemCatalog(TABLE, "{title} ({year}). {brand}")
    for whole, short in zip(catalog.list_texts(), drop_fields(catalog, share, seed), strict=True):
        words = iter(re.findall(r"\w+", whole))
        assert short
        assert all(word in words for word in re.findall(r"\w+", short))


def test_about_the_share_is_dropped_by_the_seed() -> None:
    catalog = ItemCatalog(TABLE, "{title}. {year}")
    short = drop_fields(catalog, 0.4, 0)
    assert 10 < sum("title" not in text for text in short) < 35
    assert drop_fields(catalog, 0.4, 0) == short
    assert drop_fields(catalog, 0.4, 1) != short


def test_words_are_dropped_where_there_is_one_field() -> None:
    catalog = ItemCatalog(TABLE, "{title}")
    short = drop_fields(catalog, 0.5, 0)
    assert any(len(text.split()) < 3 for text in short)
    for text, whole in zip(short, catalog.list_texts(), strict=True):
        assert text
        assert set(text.split()) <= set(whole.split())
