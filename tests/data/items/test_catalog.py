"""The catalog: item text from fields, look-up, growth, and what it refuses."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import numpy as np
import pyarrow as pa
import pytest

from llmrec.config.data import DataConfig
from llmrec.data.items.catalog import NO_RELEASE_DATE, ItemCatalog, read_catalog
from llmrec.data.problems import NamedTable
from llmrec.data.texts.templates import parse_template, render
from llmrec.errors import ConfigError, DataError


def catalog_of(fields: dict[str, object], template: str = "{title}", release_column: str | None = None) -> ItemCatalog:
    problems: list[str] = []
    config = DataConfig(text_template=template, release_column=release_column)
    catalog = read_catalog(NamedTable("items.csv", pa.table(fields)), problems, config)
    if catalog is None:
        raise DataError("items.csv", problems)
    return catalog


@pytest.fixture
def films() -> ItemCatalog:
    fields = {
        "item_id": ["m1", "m2", "m3"],
        "title": ["Heat", "Up", None],
        "year": [1995, None, 2001],
        "genres": ["Crime, Drama", "", "Comedy"],
    }
    return catalog_of(fields, "{title} ({year}). Genres: {genres}")


def test_texts_leave_no_trace_of_missing_fields(films: ItemCatalog) -> None:
    assert films.list_texts() == ["Heat (1995). Genres: Crime, Drama", "Up", "(2001). Genres: Comedy"]


@pytest.mark.parametrize(
    ("template", "row", "text"),
    [
        ("{a}. Genres: {b}", {"a": "A", "b": "B"}, "A. Genres: B"),
        ("{a}. Genres: {b}", {"a": "A"}, "A"),
        ("{a}. Genres: {b}", {"b": "B"}, "Genres: B"),
        ("{a}. Genres: {b}.", {"a": "A"}, "A."),
        ("{a}. Genres: {b}.", {"b": "B"}, "Genres: B."),
        ("{a} ({b}) [{c}]", {"a": "A", "c": "C"}, "A [C]"),
        ("{a} ({b}) [{c}]", {"b": "B"}, "(B)"),
        ("{a} by {b}, in {c}", {"a": "A", "c": "C"}, "A, in C"),
        ("{a} by {b}, in {c}", {"b": "B", "c": "C"}, "by B, in C"),
        ("{a} dollars. {b}", {"b": "B"}, "B"),
        ("{a} dollars. {b}", {"a": "A"}, "A dollars"),
        ("{a}: {b}", {"b": "B"}, "B"),
        ("{a} - {b}", {"b": "B"}, "B"),
        ("{a}\nBy: {b}", {"a": "A"}, "A"),
        ('{a} "{b}" {c}', {"a": "A", "c": "C"}, "A C"),
        ("{a}{b}", {"a": "A", "b": "B"}, "AB"),
        ("Film: {a}", {"a": "A"}, "Film: A"),
        ("Film: {a}", {}, ""),
        ("{{{a}}}", {"a": "A"}, "{A}"),
        ("{a}, {a}", {"a": "A"}, "A, A"),
    ],
)
def test_a_missing_field_takes_the_words_joined_to_it(template: str, row: dict[str, str], text: str) -> None:
    table = pa.table({name: pa.array([row.get(name)], pa.string()) for name in "abc"})
    assert render(parse_template(template), table).to_pylist() == [text]


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        (["  x ", " ", "", None], ["x", "", "", ""]),
        ([1995.0, 2.5, float("nan"), None], ["1995", "2.5", "", ""]),
        ([7, None], ["7", ""]),
        ([True, False], ["true", "false"]),
        ([["a", "b"], [], None], ["a, b", "", ""]),
        (pa.array(["x", None, "x"]).dictionary_encode(), ["x", "", "x"]),
    ],
)
def test_values_of_any_type_as_text(values: object, texts: list[str]) -> None:
    assert render(parse_template("{a}"), pa.table({"a": values})).to_pylist() == texts


@pytest.mark.parametrize("template", ["no field", "{}", "{title", "{title!r}", "{year:04d}", "{title}}"])
def test_templates_that_cannot_be_read(template: str) -> None:
    with pytest.raises(ConfigError, match="text_template"):
        parse_template(template)


def test_an_unknown_field_is_answered_with_the_columns() -> None:
    with pytest.raises(ConfigError, match=r"items.csv has no column genre. Use some of its columns item_id, title"):
        catalog_of({"item_id": ["1"], "title": ["A"]}, "{title} {genre}")


def test_a_column_without_text_is_refused() -> None:
    with pytest.raises(ConfigError, match="'title': type struct"):
        catalog_of({"item_id": ["1"], "title": [{"en": "A"}]})


def test_rows_of_ids(films: ItemCatalog) -> None:
    assert films.find_rows(["m3", "m1", "m3"]).tolist() == [2, 0, 2]
    assert films.find_rows([]).dtype == np.int64
    with pytest.raises(DataError, match=r"2 unknown item id\(s\): 'm9', 'x'"):
        films.find_rows(["m9", "m1", "x"])


def test_labels_are_titles_names_or_the_first_field(films: ItemCatalog) -> None:
    assert [films.label(row) for row in range(3)] == ["Heat", "Up", "(2001). Genres: Comedy"]
    assert catalog_of({"item_id": ["1"], "name": ["A"], "about": ["B"]}, "{about}").label(0) == "A"
    assert catalog_of({"item_id": ["1"], "title": [7], "name": ["A"]}, "{title}").label(0) == "A"
    assert catalog_of({"item_id": ["1"], "brand": ["A"], "about": ["B"]}, "{about}. {brand}").label(0) == "B"
    assert films.names.to_pylist() == ["Heat", "Up", "(2001). Genres: Comedy"]


def test_a_label_that_is_cut_ends_in_an_ellipsis() -> None:
    words = "word " * 100
    assert catalog_of({"item_id": ["1"], "title": [words]}).label(0) == "word " * 59 + "word…"
    untitled = {"item_id": ["1"], "title": pa.array([None], pa.string()), "about": [words]}
    assert catalog_of(untitled, "{about}").label(0) == "word " * 15 + "word…"
    assert catalog_of({"item_id": ["1"], "name": ["x" * 300]}, "{name}").label(0) == "x" * 300


def test_labels_and_shown_columns_are_named() -> None:
    fields = {
        "item_id": ["1", "2"],
        "title": ["A", "B"],
        "sku": [" S-1 ", ""],
        "tags": [["x", "y"], []],
        "price": [2.0, None],
    }
    shown = {"label_column": "sku", "display_columns": ("tags", "price")}
    catalog = read_catalog(NamedTable("items.csv", pa.table(fields)), [], DataConfig(**shown))
    assert catalog is not None
    assert [catalog.label(row) for row in (0, 1)] == ["S-1", "B"]
    assert [catalog.get_display_values(row) for row in (0, 1)] == [{"tags": "x, y", "price": "2"}, {}]
    assert catalog.list_texts() == ["A", "B"]
    grown = catalog.extend([{"item_id": "3", "title": "C", "sku": "S-3", "tags": ["z"]}])
    assert (grown.label(2), grown.get_display_values(2)) == ("S-3", {"tags": "z"})
    assert catalog.label_new({"title": "D", "sku": "S-4"}, "D") == "S-4"
    assert catalog.label_new({"title": "D"}, "D") == "D"


def test_columns_to_show_must_exist_and_have_text() -> None:
    table = NamedTable("items.csv", pa.table({"item_id": ["1"], "title": ["A"], "more": [{"en": "A"}]}))
    problems: list[str] = []
    assert read_catalog(table, problems, DataConfig(label_column="name", display_columns=("price",))) is None
    assert [problem.split(". ")[0] for problem in problems] == [
        "items.csv, column 'name': missing among item_id, title, more",
        "items.csv, column 'price': missing among item_id, title, more",
    ]
    with pytest.raises(ConfigError, match="'more': type struct"):
        read_catalog(table, [], DataConfig(display_columns=("more",)))


def test_text_of_an_item_that_is_in_no_catalog(films: ItemCatalog) -> None:
    assert films.render_text({"title": "Alien", "year": 1979}) == "Alien (1979)"
    assert films.render_text({"title": "Alien", "genres": ["Horror", "Sci-Fi"]}) == "Alien. Genres: Horror, Sci-Fi"
    with pytest.raises(DataError, match="at least one of title, year, genres"):
        films.render_text({"title": " "})
    with pytest.raises(DataError, match="'genre': missing among item_id, title, year, genres"):
        films.render_text({"title": "Alien", "genre": "Horror"})
    with pytest.raises(DataError, match="column 'year'"):
        films.render_text({"title": "Alien", "year": "late"})


def test_extend_makes_a_new_catalog_with_the_old_rows(films: ItemCatalog) -> None:
    grown = films.extend([{"item_id": "m4", "title": "Alien"}, {"item_id": 5, "title": "Jaws", "year": 1975}])
    assert (len(films), len(grown)) == (3, 5)
    assert grown.list_texts() == [*films.list_texts(), "Alien", "Jaws (1975)"]
    assert grown.find_rows(["m1", "5"]).tolist() == [0, 4]
    assert films.extend([]) is films


@pytest.mark.parametrize(
    ("item", "complaint"),
    [
        ({"item_id": "m1", "title": "Heat again"}, "id that the catalog has already"),
        ({"title": "Nameless"}, "missing id"),
        ({"item_id": "m9"}, "item with an empty text"),
    ],
)
def test_extend_refuses(films: ItemCatalog, item: dict[str, object], complaint: str) -> None:
    with pytest.raises(DataError, match=complaint):
        films.extend([item])


def test_extend_refuses_doubled_ids(films: ItemCatalog) -> None:
    with pytest.raises(DataError, match=r"duplicate item id in 1 row \(row 2: 'm9'\)"):
        films.extend([{"item_id": "m9", "title": "A"}, {"item_id": "m9", "title": "B"}])


def test_release_times_old_new_and_unknown() -> None:
    fields = {"item_id": [1, 2, 3], "title": ["A", "B", "C"], "released": ["1940-01-01", "2020-01-01T12:00:00Z", ""]}
    catalog = catalog_of(fields, release_column="released")
    assert catalog.release_time is not None
    assert catalog.release_time.tolist() == [-946771200, 1577880000, NO_RELEASE_DATE]
    noon = datetime(2024, 1, 1, 12, tzinfo=timezone(timedelta(hours=2)))
    grown = catalog.extend([{"item_id": 4, "title": "D", "released": noon}, {"item_id": 5, "title": "E"}])
    assert grown.release_time is not None
    assert grown.release_time[3:].tolist() == [1704103200, NO_RELEASE_DATE]
    assert catalog_of({"item_id": [1], "title": ["A"]}).release_time is None


def test_everything_wrong_with_the_items_is_told_at_once() -> None:
    fields = {
        "item_id": ["a", "b", "a", None, "c"],
        "title": ["A", " ", "A2", "D", "E"],
        "released": ["2020-01-01", "2020-01-01", "2020-01-01", "soon", None],
    }
    with pytest.raises(DataError) as caught:
        catalog_of(fields, release_column="released")
    assert caught.value.problems == (
        "items.csv, column 'item_id': missing id in 1 row (row 4: null). Give every row an id, or remove the row.",
        "items.csv, column 'item_id': duplicate item id in 1 row (row 3: 'a'). Keep one row for each item.",
        "items.csv, column 'released': unreadable time in 1 row (row 4: 'soon'). Write ISO 8601 "
        "(2024-01-31T12:00:00Z) or epoch seconds, in one unit for all rows, or set time_format.",
        "items.csv, column 'item_id': item with an empty text in 1 row (row 2: 'b'). Fill one of title, "
        "or name more fields in text_template.",
    )
