"""Parts of a table as one, and columns of it that have no plain values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llmrec.config.data import DataConfig
from llmrec.data.loading import load_log
from llmrec.data.log import Log
from llmrec.errors import ConfigError, DataError

EVENTS = pa.table({"user_id": ["a", "b", "a"], "item_id": ["1", "2", "2"], "timestamp": [5, 6, 7]})
ITEMS = pa.table({"item_id": ["1", "2"], "title": ["A", "B"]})


def load(folder: Path, **options: Any) -> Log:
    return load_log(DataConfig(source=str(folder), **options))


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    """Folder of parts with the first of them, next to the items."""
    pq.write_table(ITEMS, tmp_path / "items.parquet")
    (tmp_path / "interactions").mkdir()
    pq.write_table(EVENTS, tmp_path / "interactions" / "part-0.parquet")
    return tmp_path / "interactions"


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.null(), pa.dictionary(pa.int32(), pa.string())])
def test_a_part_without_rows_adds_nothing(parts: Path, kind: pa.DataType) -> None:
    empty = pa.schema([("user_id", kind), ("item_id", kind), ("timestamp", pa.int32())]).empty_table()
    pq.write_table(empty, parts / "part-1.parquet")
    assert len(load(parts.parent).interactions) == 3


@pytest.mark.parametrize("kind", [pa.large_string(), pa.dictionary(pa.int32(), pa.string()), pa.string_view()])
def test_parts_may_spell_text_differently(parts: Path, kind: pa.DataType) -> None:
    more = EVENTS.set_column(0, "user_id", EVENTS["user_id"].cast(kind)).set_column(2, "timestamp", [[8, 9, 10]])
    pq.write_table(more, parts / "part-1.parquet")
    log = load(parts.parent, repeats="keep")
    assert len(log.interactions) == 6
    assert log.user_ids.to_pylist() == ["a", "b"]


def test_parts_without_a_sign_are_left_out(tmp_path: Path) -> None:
    pq.write_table(ITEMS, tmp_path / "items.parquet")
    (tmp_path / "interactions").mkdir()
    (tmp_path / "interactions" / "part-0.csv").write_text("")
    (tmp_path / "interactions" / "part-1.csv").write_text("user_id,item_id,timestamp\na,1,5\n")
    assert len(load(tmp_path).interactions) == 1


def test_lines_before_the_names_are_named_as_a_cause(tmp_path: Path) -> None:
    pq.write_table(ITEMS, tmp_path / "items.parquet")
    (tmp_path / "interactions.csv").write_text("# made in May\nuser_id,item_id,timestamp\na,1,5\n")
    with pytest.raises(DataError, match="Lines before the names of the columns have to go"):
        load(tmp_path)


OBJECTS = [
    pa.array([{"a": 1}, {"a": 2}]),
    pa.array([[("a", 1)], []], pa.map_(pa.string(), pa.int32())),
    pa.array([[{"name": "x"}], []]),
]


@pytest.mark.parametrize("column", OBJECTS)
def test_objects_in_a_template_are_refused_with_what_to_write(tmp_path: Path, column: pa.Array) -> None:
    items = ITEMS.append_column("details", column)
    pq.write_table(items, tmp_path / "items.parquet")
    pq.write_table(EVENTS, tmp_path / "interactions.parquet")
    assert load(tmp_path).catalog.list_texts() == ["A", "B"]
    remedy = "'details'.*Its values are objects: write the part that you need as a column of its own"
    with pytest.raises(ConfigError, match=remedy):
        load(tmp_path, text_template="{title} {details}")
    with pytest.raises(ConfigError, match=remedy):
        load_log(DataConfig(text_template="{title} {details}"), (EVENTS, items))


def test_objects_as_ids_are_shown_in_memory_too() -> None:
    events = EVENTS.set_column(0, "user_id", pa.array([{"id": "a"}] * 3))
    with pytest.raises(DataError, match=r"column 'user_id': unusable id in 3 rows"):
        load_log(DataConfig(), (events, ITEMS))
