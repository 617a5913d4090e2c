"""JSON as different programs write it: lines, lists, objects over several lines, and Python dicts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmrec.data.readers.json_files import read_json

ROWS = [{"id": "a", "n": 1, "tags": ["x"]}, {"id": "b", "n": 2, "tags": []}]
VALUES = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.text(max_size=5) | st.lists(st.text())


def read(path: Path, text: str, encoding: str = "utf-8") -> list[dict[str, Any]]:
    path.write_bytes(text.encode(encoding))
    return list(read_json(path, columns=None, encoding=encoding).to_pylist())


@pytest.mark.parametrize(
    "text",
    [
        "\n".join(map(json.dumps, ROWS)),
        "\r\n".join(map(json.dumps, ROWS)),
        json.dumps(ROWS, indent=1),
        "\n".join(json.dumps(row, indent=2) for row in ROWS),
        ",\n".join(json.dumps(row, indent=2) for row in ROWS),
        "\n".join(map(repr, ROWS)),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_objects_in_every_layout_are_rows(tmp_path: Path, text: str, encoding: str) -> None:
    assert read(tmp_path / "rows.json", text, encoding) == ROWS


@pytest.mark.parametrize("text", ['{\n"a": ' + "[" * 99_000, "[" * 99_000, '{"a": 1}{"a": ' + '{"a":' * 99_000])
def test_values_that_nest_too_deep_are_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ValueError, match="nest"):
        read(tmp_path / "rows.json", text)


def test_objects_in_one_line_are_rows(tmp_path: Path) -> None:
    assert read(tmp_path / "rows.json", '{"a": 1}{"a": 2} {"a": 3}') == [{"a": 1}, {"a": 2}, {"a": 3}]


def test_python_dicts_may_hold_numbers_without_a_literal(tmp_path: Path) -> None:
    assert read(tmp_path / "rows.json", "{'a': nan, 'b': 1.5}\n{'a': 2.0, 'b': -inf}\n")[0] == {"a": None, "b": 1.5}


@pytest.mark.parametrize("document", [{"data": ROWS}, {"id": ["a", "b"], "n": [1, 2]}, {"id": {"0": "a", "1": "b"}}])
def test_one_object_with_all_rows_is_refused_with_what_to_write(tmp_path: Path, document: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="no rows of plain values; write a list of objects"):
        read(tmp_path / "rows.json", json.dumps(document))


def test_values_with_the_name_of_their_type_are_the_values(tmp_path: Path) -> None:
    lines = [{"_id": {"$oid": "5f"}, "at": {"$date": "2024-01-31T12:00:00Z"}}, {"_id": {"$oid": "60"}, "at": None}]
    (first, second) = read(tmp_path / "rows.json", "\n".join(map(json.dumps, lines)))
    assert first == {"_id": "5f", "at": "2024-01-31T12:00:00Z"}
    assert second == {"_id": "60", "at": None}
    mixed = [{"at": {"$numberLong": "5"}}, {"at": {"$date": "6"}}]
    assert read(tmp_path / "rows.json", "\n".join(map(json.dumps, mixed))) == [{"at": "5"}, {"at": "6"}]


def test_times_in_lists_stay_as_they_are_written(tmp_path: Path) -> None:
    rows = [{"id": "a", "days": ["2024-01-31T10:00:00+02:00", "2024-02-01T00:00:00Z"]}]
    assert read(tmp_path / "rows.json", "\n".join(map(json.dumps, rows))) == rows


def test_half_a_surrogate_keeps_no_file_from_being_read(tmp_path: Path) -> None:
    assert read(tmp_path / "rows.json", '{"a": "\\ud83d!"}\n{"a": "\\ud83d\\ude00"}\n') == [
        {"a": "?!"},
        {"a": "\U0001f600"},
    ]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.fixed_dictionaries({"id": st.text(min_size=1), "x": VALUES}), min_size=1, max_size=4))
def test_any_mix_of_values_is_read_without_made_up_digits(tmp_path_factory: pytest.TempPathFactory, rows: Any) -> None:
    path = tmp_path_factory.mktemp("mixed") / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    table = read_json(path, columns=None)
    assert table["id"].to_pylist() == [row["id"] for row in rows]
    for row, value in zip(rows, table["x"].to_pylist() if "x" in table.column_names else [], strict=False):
        if type(row["x"]) is int and pa.types.is_large_string(table["x"].type):
            assert value == str(row["x"])
        elif type(row["x"]) is int and not pa.types.is_nested(table["x"].type):
            assert value == row["x"]
