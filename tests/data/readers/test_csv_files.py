"""Text files with a separator, as different programs write them."""

from __future__ import annotations

import lzma
from pathlib import Path

import pytest

from llmrec.config.data import TableFormat
from llmrec.data.readers.csv_files import read_csv, read_header
from llmrec.errors import ConfigError

PLAIN = TableFormat()


def rows_of(path: Path, style: TableFormat = PLAIN, ids: tuple[str, ...] = ()) -> list[dict[str, object]]:
    return list(read_csv(path, style, ids=ids, columns=None).table.to_pylist())


def test_text_with_the_mark_of_utf16_is_read_by_it(tmp_path: Path) -> None:
    path = tmp_path / "items.csv"
    path.write_bytes("item_id,title\n1,Am\u00e9lie\n".encode("utf-16"))
    assert rows_of(path) == [{"item_id": 1, "title": "Am\u00e9lie"}]


def test_xz_is_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "items.csv.xz"
    path.write_bytes(lzma.compress(b"item_id,title\n1,Heat\n"))
    assert rows_of(path) == [{"item_id": 1, "title": "Heat"}]


def test_quotation_marks_may_be_escaped(tmp_path: Path) -> None:
    path = tmp_path / "items.csv"
    path.write_text('item_id,title\n1,"The \\"big\\", one"\n2,"C:\\\\"\n')
    assert [row["title"] for row in rows_of(path, TableFormat(escape="\\"))] == ['The "big", one', "C:\\"]
    with pytest.raises(ConfigError, match="escape='ab': give one character"):
        TableFormat(escape="ab")


def test_whole_numbers_of_many_digits_keep_them(tmp_path: Path) -> None:
    path = tmp_path / "items.csv"
    path.write_text("item_id,code,mass\n1,12345678901234567890,1e40\n2,7,\n")
    assert rows_of(path) == [
        {"item_id": 1, "code": "12345678901234567890", "mass": 1e40},
        {"item_id": 2, "code": "7", "mass": None},
    ]


def test_atomic_files_name_the_types_of_their_columns(tmp_path: Path) -> None:
    path = tmp_path / "ml.inter"
    path.write_text("user_id:token\titem_id:token\ttimestamp:float\tnote:token_seq\n7\t9\t5\ta b\n")
    assert read_header(path, PLAIN) == (["user_id", "item_id", "timestamp", "note"], "\t")
    assert rows_of(path, ids=("user_id",)) == [{"user_id": "7", "item_id": 9, "timestamp": 5, "note": "a b"}]
