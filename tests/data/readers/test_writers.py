"""Sound tables of every common writer, file form and type are read to the same log and the same texts, to the value."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from datetime import date, datetime, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.orc
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmrec.config.data import DataConfig, TableFormat
from llmrec.data.loading import load_log
from llmrec.data.log import Log

Columns = dict[str, list[Any]]
QUICK = settings(
    max_examples=12, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None
)
TEMPLATE = "{title}. {price}. {tags}. {released}. {seen}. {sure}"
WORDS = st.text(st.sampled_from("abcdeé 🎬'-"), min_size=1, max_size=8).map(str.strip).filter(bool)
MOMENTS = st.datetimes(datetime(1990, 1, 1), datetime(2030, 1, 1)).map(lambda moment: moment.replace(microsecond=0))


@st.composite
def logs(draw: st.DrawFn) -> tuple[Columns, Columns]:
    """Events and items with a column of every plain type."""
    n_items = draw(st.integers(2, 4))
    ids = [f"i{k}" for k in range(n_items)]
    some = st.lists(st.integers(0, n_items - 1), min_size=3, max_size=8)
    rows = draw(some)
    events = {
        "user_id": [f"u{k % 3}" for k in range(len(rows))],
        "item_id": [ids[row] for row in rows],
        "timestamp": draw(st.lists(MOMENTS, min_size=len(rows), max_size=len(rows))),
    }

    def column(values: st.SearchStrategy[Any]) -> list[Any]:
        return draw(st.lists(values, min_size=n_items, max_size=n_items))

    items = {
        "item_id": ids,
        "title": column(WORDS),
        "price": [cents / 100 for cents in column(st.integers(1, 9_999))],
        "tags": column(st.lists(WORDS, min_size=1, max_size=3)),
        "released": column(st.dates(date(1950, 1, 1), date(2030, 1, 1))),
        "seen": column(MOMENTS),
        "sure": column(st.booleans()),
    }
    return events, items


def expect(events: Columns, items: Columns, written: bool = False) -> tuple[list[tuple[str, str, int]], list[str]]:
    """Events in order, and texts, computed in plain Python; `written`: times are text, which stays as it is."""
    seconds = [int(moment.replace(tzinfo=timezone.utc).timestamp()) for moment in events["timestamp"]]
    rows = sorted(zip(events["user_id"], events["item_id"], seconds, strict=True), key=lambda row: row[2])
    texts = []
    for title, price, tags, released, seen, sure in zip(*(items[name] for name in list(items)[1:]), strict=True):
        moment = str(seen) if written else str(seen).removesuffix(" 00:00:00")
        texts.append(f"{title}. {price:g}. {', '.join(tags)}. {released}. {moment}. {str(sure).lower()}")
    return rows, texts


def see(log: Log) -> tuple[list[tuple[str, str, int]], list[str]]:
    users, items, events = log.user_ids.to_pylist(), log.catalog.ids.to_pylist(), log.interactions
    rows = [(users[u], items[i], int(t)) for u, i, t in zip(events.user, events.item, events.time, strict=True)]
    return rows, log.catalog.list_texts()


def with_pyarrow(columns: Columns) -> pa.Table:
    return pa.table(columns)


def with_pandas(columns: Columns) -> Any:
    return pytest.importorskip("pandas").DataFrame(columns)


def with_polars(columns: Columns) -> Any:
    return pytest.importorskip("polars").DataFrame(columns)


def parquet_of(table: Any, path: Path) -> None:
    if isinstance(table, pa.Table):
        pq.write_table(table, path)
    elif hasattr(table, "write_parquet"):
        table.write_parquet(path)
    else:
        table.to_parquet(path, index=False)


def lines_of(columns: Columns) -> str:
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    return "".join(json.dumps(row, default=str) + "\n" for row in rows)


def by_parquet(columns: Columns, folder: Path, role: str, make: Callable[[Columns], Any]) -> None:
    parquet_of(make(columns), folder / f"{role}.parquet")


def by_parts(columns: Columns, folder: Path, role: str, make: Callable[[Columns], Any]) -> None:
    (folder / f"{role}.parquet").mkdir()
    for part, rows in enumerate((slice(0, 1), slice(1, None))):
        half = {name: values[rows] for name, values in columns.items()}
        parquet_of(make(half), folder / f"{role}.parquet" / f"part-{part}.parquet")


def by_partitions(columns: Columns, folder: Path, role: str, make: Callable[[Columns], Any]) -> None:
    """By user or item, whose ids are in the names of folders alone."""
    key = "user_id" if role == "interactions" else "item_id"
    for value in dict.fromkeys(columns[key]):
        rows = [row for row, one in enumerate(columns[key]) if one == value]
        rest = {name: [values[row] for row in rows] for name, values in columns.items() if name != key}
        inner = folder / role / f"{key}={value}"
        inner.mkdir(parents=True)
        parquet_of(make(rest), inner / "part.parquet")


def by_jsonl(columns: Columns, folder: Path, role: str, make: Callable[[Columns], Any]) -> None:
    (folder / f"{role}.jsonl.gz").write_bytes(gzip.compress(lines_of(columns).encode()))


def by_json_list(columns: Columns, folder: Path, role: str, make: Callable[[Columns], Any]) -> None:
    (folder / f"{role}.json").write_text(f"[{','.join(lines_of(columns).splitlines())}]", encoding="utf-8")


def by_python_lines(columns: Columns, folder: Path, role: str, make: Callable[[Columns], Any]) -> None:
    rows = [json.loads(line) for line in lines_of(columns).splitlines()]
    (folder / f"{role}.json").write_text("".join(f"{row!r}\n" for row in rows), encoding="utf-8")


def by_feather(columns: Columns, folder: Path, role: str, make: Callable[[Columns], Any]) -> None:
    pyarrow.feather.write_feather(pa.table(columns), folder / f"{role}.feather")


def by_orc(columns: Columns, folder: Path, role: str, make: Callable[[Columns], Any]) -> None:
    pyarrow.orc.write_table(pa.table(columns), str(folder / f"{role}.orc"))


def by_duckdb(columns: Columns, folder: Path, role: str, make: Callable[[Columns], Any]) -> None:
    duckdb = pytest.importorskip("duckdb")
    table = pa.table(columns)
    connection = duckdb.connect()
    connection.register("given", table)
    connection.sql(f"copy (select * from given) to '{folder / role}.parquet'")


FORMS = [by_parquet, by_parts, by_partitions, by_jsonl, by_json_list, by_python_lines, by_feather, by_orc, by_duckdb]

WRITTEN = [by_jsonl, by_json_list, by_python_lines]


@pytest.mark.parametrize("write", FORMS)
@pytest.mark.parametrize("make", [with_pyarrow, with_pandas, with_polars])
def test_files_of_every_writer_are_the_same_log(
    write: Any, make: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    if make is not with_pyarrow and write not in (by_parquet, by_parts, by_partitions):
        pytest.skip("the same file")

    @QUICK
    @given(logs())
    def check(tables: tuple[Columns, Columns]) -> None:
        folder = tmp_path_factory.mktemp("log")
        for role, columns in zip(("interactions", "items"), tables, strict=True):
            write(columns, folder, role, make)
        config = DataConfig(source=str(folder), text_template=TEMPLATE, repeats="keep")
        rows, texts = see(load_log(config))
        wanted_rows, wanted_texts = expect(*tables, written=write in WRITTEN)
        assert texts == wanted_texts
        if write is by_partitions:  # in the order of their folders where times are equal
            rows, wanted_rows = sorted(rows), sorted(wanted_rows)
        assert rows == wanted_rows

    check()


@pytest.mark.parametrize("make", [with_pyarrow, with_pandas, with_polars])
def test_tables_in_memory_are_the_same_log(make: Any) -> None:
    @QUICK
    @given(logs())
    def check(tables: tuple[Columns, Columns]) -> None:
        given_tables = (make(tables[0]), make(tables[1]))
        config = DataConfig(source="memory", text_template=TEMPLATE, repeats="keep")
        assert see(load_log(config, given_tables)) == expect(*tables)

    check()


CELL = st.text(st.characters(exclude_categories=["C", "Z"], max_codepoint=0xFF, exclude_characters='"'), min_size=1)


@QUICK
@given(
    st.lists(CELL.map(lambda text: f"x{text}"), min_size=2, max_size=4),
    st.sampled_from([",", "\t", ";", "|", "::", "||", "\x01"]),
    st.sampled_from(["utf-8", "latin-1", "utf-16"]),
    st.booleans(),
    st.sampled_from(["", ".gz"]),
)
def test_text_files_of_any_separator_and_encoding(
    tmp_path_factory: pytest.TempPathFactory,
    titles: list[str],
    separator: str,
    encoding: str,
    header: bool,
    packed: str,
) -> None:
    folder = tmp_path_factory.mktemp("log")
    titles = [title.replace(sign, "_") for title in titles for sign in [separator[0]]]
    names = {"interactions": ("user_id", "item_id", "timestamp"), "items": ("item_id", "title")}
    rows = {
        "interactions": [(f"u{k}", f"0{k}", 1_600_000_000 + k) for k in range(len(titles))],
        "items": [(f"0{k}", title) for k, title in enumerate(titles)],
    }
    formats = {}
    for role, columns in names.items():
        lines = [*([columns] if header else []), *rows[role]]
        content = "".join(separator.join(map(str, line)) + "\n" for line in lines).encode(encoding)
        (folder / f"{role}.csv{packed}").write_bytes(gzip.compress(content) if packed else content)
        formats[f"{role}_format"] = TableFormat(
            separator=separator, columns=None if header else columns, encoding=encoding, quotes=False
        )
    log = load_log(DataConfig(source=str(folder), missing_words=(), **formats))
    assert log.catalog.list_texts() == titles
    assert see(log)[0] == [(f"u{k}", f"0{k}", 1_600_000_000 + k) for k in range(len(titles))]


def spell(kind: str, texts: list[str]) -> Any:
    """Texts in one of Arrow's spellings."""
    plain = pa.array(texts)
    if kind == "dictionary":
        return plain.dictionary_encode()
    if kind == "run_end":
        return pa.RunEndEncodedArray.from_arrays(pa.array(range(1, len(texts) + 1), pa.int32()), plain)
    return plain.cast({"view": pa.string_view(), "large": pa.large_string(), "binary": pa.binary()}[kind])


NUMBERS: list[tuple[pa.DataType, Any, str]] = [
    (pa.float16(), 12.99, "12.99"),
    (pa.float32(), 12.99, "12.99"),
    (pa.float32(), 4.7, "4.7"),
    (pa.float64(), 0.1, "0.1"),
    (pa.float64(), 1995.0, "1995"),
    (pa.int8(), 7, "7"),
    (pa.uint64(), 2**64 - 1, str(2**64 - 1)),
    (pa.decimal128(9, 2), Decimal("12.99"), "12.99"),
    (pa.decimal256(40, 1), Decimal("0.5"), "0.5"),
    (pa.date32(), date(2020, 2, 29), "2020-02-29"),
    (pa.date64(), date(2020, 2, 29), "2020-02-29"),
    (pa.timestamp("ns"), datetime(2020, 2, 29, 10, 0, 1), "2020-02-29 10:00:01"),
    (pa.timestamp("ms"), datetime(2020, 2, 29), "2020-02-29"),
    (pa.timestamp("us", "Asia/Tokyo"), datetime(2020, 2, 29, tzinfo=timezone.utc), "2020-02-29 00:00:00Z"),
    (pa.time32("s"), datetime(2020, 1, 1, 9, 30).time(), "09:30:00"),
    (pa.bool_(), True, "true"),
    (pa.uuid(), UUID(int=7).bytes, str(UUID(int=7))),
    (pa.binary(), b"plain text", "plain text"),
]


@pytest.mark.parametrize(("kind", "value", "text"), NUMBERS)
@pytest.mark.parametrize("shape", ["alone", "list", "large_list", "fixed", "view", "nested"])
def test_values_of_every_type_have_one_text(kind: pa.DataType, value: Any, text: str, shape: str) -> None:
    one = pa.array([value, value], kind)
    lists = {
        "alone": lambda: one,
        "list": lambda: pa.ListArray.from_arrays([0, 2], one),
        "large_list": lambda: pa.LargeListArray.from_arrays([0, 2], one),
        "fixed": lambda: pa.FixedSizeListArray.from_arrays(one, 2),
        "view": lambda: pa.ListViewArray.from_arrays([0], [2], one),
        "nested": lambda: pa.ListArray.from_arrays([0, 1], pa.ListArray.from_arrays([0, 2], one)),
    }
    column = lists[shape]()[:1]
    events = pa.table({"user_id": ["u"], "item_id": ["i"], "timestamp": [1_600_000_000]})
    items = pa.table({"item_id": ["i"], "title": column})
    log = load_log(DataConfig(source="memory"), (events, items))
    assert log.catalog.list_texts() == [text if shape == "alone" else f"{text}, {text}"]


@QUICK
@given(
    st.lists(WORDS, min_size=2, max_size=5, unique=True),
    st.sampled_from(["dictionary", "run_end", "view", "large", "binary"]),
    st.sampled_from(["dictionary", "run_end", "view", "large", "binary"]),
)
def test_text_in_every_spelling_is_the_same(ids: list[str], one: str, other: str) -> None:
    times = [f"2020-01-{k + 1:02}T10:00:00+02:00" for k in range(len(ids))]
    events = pa.table({"user_id": spell(one, ids), "item_id": spell(other, ids), "timestamp": spell(one, times)})
    items = pa.table({"item_id": spell(one, ids), "title": spell(other, ids)})
    log = load_log(DataConfig(source="memory", missing_words=()), (events, items))
    assert log.user_ids.to_pylist() == log.catalog.ids.to_pylist() == log.catalog.list_texts() == ids
    assert log.facts.first_time == "2020-01-01T08:00:00Z"


def test_classes_are_read_by_their_names(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    kinds = datasets.ClassLabel(names=["drama", "horror"])
    features = datasets.Features({"item_id": datasets.Value("int64"), "title": kinds, "more": datasets.Sequence(kinds)})
    items = datasets.Dataset.from_dict({"item_id": [1, 2], "title": [1, -1], "more": [[0, 1], [0]]}, features=features)
    events = datasets.Dataset.from_dict({"user_id": [1], "item_id": [1], "timestamp": [1_600_000_000]})
    events.to_parquet(tmp_path / "interactions.parquet")
    items.to_parquet(tmp_path / "items.parquet")
    (tmp_path / "saved").mkdir()
    for role, table in (("interactions", events), ("items", items)):
        table.save_to_disk(str(tmp_path / "saved" / role))
    template = "{title}: {more}"
    of_files = load_log(DataConfig(source=str(tmp_path), text_template=template))
    in_memory = load_log(DataConfig(source="memory", text_template=template), (events, items))
    saved = DataConfig(
        interactions=str(tmp_path / "saved" / "interactions"), items=str(tmp_path / "saved" / "items"),
        text_template=template,
    )  # fmt: skip
    for log in (of_files, in_memory, load_log(saved)):
        assert log.catalog.list_texts() == ["horror: drama, horror", "drama"]


def test_columns_that_nobody_needs_keep_no_table_from_being_read(tmp_path: Path) -> None:
    events = [{"user_id": f"u{k}", "item_id": k, "timestamp": 1_600_000_000 + k, "more": {}} for k in range(3)]
    odd = ({}, [{"a": {}}], "x")
    prices = (9.50, None, "from 14.99")
    items = [{"item_id": k, "title": f"T{k}", "price": prices[k], "details": odd[k]} for k in range(3)]
    for role, rows in (("interactions", events), ("items", items)):
        (tmp_path / f"{role}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows).replace("9.5", "9.50"))
    assert load_log(DataConfig(source=str(tmp_path))).catalog.list_texts() == ["T0", "T1", "T2"]
    texts = load_log(DataConfig(source=str(tmp_path), text_template="{title}. {price}")).catalog.list_texts()
    assert texts == ["T0. 9.50", "T1", "T2. from 14.99"]
    pandas, polars = pytest.importorskip("pandas"), pytest.importorskip("polars")
    for make in (pandas.DataFrame, lambda rows: polars.DataFrame(rows, schema_overrides={"price": polars.Object})):
        plain = [{name: row[name] for name in ("item_id", "title", "price")} for row in items]
        log = load_log(DataConfig(source="memory", text_template="{title}. {price}"), (make(events), make(plain)))
        assert log.catalog.list_texts() == ["T0. 9.5", "T1", "T2. from 14.99"]
