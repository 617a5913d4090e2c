"""Words for nothing, HTML and written lists: what becomes of the fields of items, wherever they come from."""

from __future__ import annotations

import html
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmrec.config.data import MISSING_WORDS, DataConfig
from llmrec.data.items.catalog import ItemCatalog, read_catalog
from llmrec.data.loading import load_log
from llmrec.data.problems import NamedTable
from llmrec.data.texts.cleaning import clean_column, strip_html

PLAIN = st.text(st.characters(exclude_characters="<>&", exclude_categories=["C", "Z"]), max_size=12)


def catalog_of(fields: dict[str, Any], template: str, **options: Any) -> ItemCatalog:
    problems: list[str] = []
    catalog = read_catalog(
        NamedTable("items", pa.table(fields)), problems, DataConfig(text_template=template, **options)
    )
    assert catalog is not None, problems
    return catalog


def test_words_for_nothing_are_nothing_in_texts_and_ids() -> None:
    fields = {
        "item_id": ["1", "2", "3"],
        "title": ["A", "B", "nan"],
        "brand": ["NA", "Acme", "None"],
        "more": ["x", "<NA>", "y"],
    }
    catalog = catalog_of(fields, "{title}. Brand: {brand}. {more}")
    assert catalog.list_texts() == ["A. x", "B. Brand: Acme", "y"]
    assert catalog.render_text({"title": "C", "brand": "null", "more": "NaN"}) == "C"
    assert catalog.extend([{"item_id": "4", "title": "D", "brand": "NA"}]).list_texts()[-1] == "D"
    kept = catalog_of(fields, "{title}. Brand: {brand}. {more}", missing_words=())
    assert kept.list_texts()[0] == "A. Brand: NA. x"
    events = pa.table({"user_id": ["NA", "u"], "item_id": ["1", "2"], "timestamp": [1, 2]})
    log = load_log(DataConfig(source="memory", faulty_rows="drop"), (events, pa.table(fields)))
    assert (log.user_ids.to_pylist(), log.facts.n_faulty) == (["u"], {"events": 1, "items": 1})


@settings(deadline=None, max_examples=40)
@given(st.lists(st.sampled_from([*MISSING_WORDS, " NA ", "a", "NAB", None]), min_size=1))
def test_a_word_means_the_same_in_every_column(words: list[str | None]) -> None:
    kept = [None if word is None or word.strip() in MISSING_WORDS else word for word in words]
    plain = clean_column(pa.chunked_array([pa.array(words, pa.string())]), missing_words=MISSING_WORDS, clean=())
    coded = pa.chunked_array([pa.array(words, pa.string()).dictionary_encode()])
    assert plain.to_pylist() == clean_column(coded, missing_words=MISSING_WORDS, clean=()).to_pylist() == kept
    lists = pa.chunked_array([pa.array([words], pa.large_list(pa.large_string()))])
    assert clean_column(lists, missing_words=MISSING_WORDS, clean=()).to_pylist() == [kept]


@settings(deadline=None, max_examples=60)
@given(PLAIN, st.integers(0, 2), st.sampled_from(["b", "br/", "a href='x'", "!-- no --"]))
def test_html_comes_out(text: str, escaped: int, tag: str) -> None:
    written = text
    for _ in range(escaped):
        written = html.escape(written)
    assert strip_html(strip_html(f"<{tag}>{written}<{tag}>")) == strip_html(text)
    assert strip_html(html.escape("1 < 2 & 3 > 2")) == "1 < 2 & 3 > 2"


def test_cleaning_is_the_same_for_new_items() -> None:
    fields = {"item_id": ["1"], "title": ["Tom &amp; <i>Jerry</i>"], "tags": ["['a', 'b']"], "genres": ["X|Y"]}
    catalog = catalog_of(fields, "{title}. {tags}. {genres}", clean=("html", "lists"))
    assert catalog.list_texts() == ["Tom & Jerry. a, b. X, Y"]
    new = {"title": "Tom &amp; Jerry", "tags": ["a", "b"], "genres": "X|Y"}
    assert catalog.render_text(new) == "Tom & Jerry. a, b. X, Y"
    untouched = catalog_of(fields, "{title}. {tags}. {genres}")
    assert untouched.list_texts() == ["Tom &amp; <i>Jerry</i>. ['a', 'b']. X|Y"]


@pytest.mark.parametrize(
    ("template", "row", "text"),
    [
        ("{a} ({b}, {c})", {"a": "A", "b": "B", "c": "C"}, "A (B, C)"),
        ("{a} ({b}, {c})", {"a": "A", "c": "C"}, "A (C)"),
        ("{a} ({b}, {c})", {"a": "A", "b": "B"}, "A (B)"),
        ("{a} ({b}, {c})", {"a": "A"}, "A"),
        ("{a} (from {b} in {c}).", {"a": "A", "c": "C"}, "A (in C)."),
        ("{a} [{b} / {c}]", {"b": "B"}, "[B]"),
        ("{a}. {b}!", {"a": "A"}, "A!"),
        ("{a}. {b}.", {}, ""),
    ],
)
def test_punctuation_stays_right_without_a_field(template: str, row: dict[str, str], text: str) -> None:
    fields = {"item_id": ["1", "2"], "more": ["x", "x"]} | {name: [row.get(name), "."] for name in "abc"}
    catalog = catalog_of(fields | {"a": [row.get("a"), "last"]}, template, faulty_rows="drop")
    assert catalog.list_texts()[: len(catalog) - 1] == ([text] if text else [])
