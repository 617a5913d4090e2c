"""A log's file without some users: the other records as they are written, in every format; and what a search finds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llmrec.config.data import DataConfig, PseudonymConfig, TableFormat
from llmrec.data.loading import load_log
from llmrec.data.pseudonyms import PLAIN_IDS, Pseudonymizer
from llmrec.errors import ConfigError, DataError
from llmrec.unlearning.id_search import filter_searchable_ids, find_ids, list_files
from llmrec.unlearning.log_files import find_user_records, write_log_without_users

ITEMS = "item_id,title\nx,X\ny,Y\n"
CSV = (
    'user_id,item_id,timestamp,note\n007,x,1,"a, ""b""\n\nc"\nada,y,2,\n\n'
    '"ada",x,3,"of\nada"\nbob,y,4,ends without a line break'
)
CSV_WITHOUT = 'user_id,item_id,timestamp,note\n007,x,1,"a, ""b""\n\nc"\nbob,y,4,ends without a line break'
JSONL = [
    '{"timestamp": 1, "user_id": 12.0, "item_id": "x"}',
    '{"user_id": 12, "item_id": "y", "timestamp": 2}',
    '{"user_id":13,"item_id":"x","timestamp":3}',
]


def without(folder: Path, *users: str, names: Pseudonymizer = PLAIN_IDS) -> tuple[DataConfig, list[str]]:
    config = DataConfig(str(folder))
    records = find_user_records(config, users, names)
    return write_log_without_users(config, records.mask, folder / "without"), records.ids


def test_csv_keeps_every_other_byte(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text(ITEMS)
    (tmp_path / "interactions.csv").write_text(CSV)
    config, ids = without(tmp_path, "ada", "nobody")
    assert (tmp_path / "without" / "interactions.csv").read_text() == CSV_WITHOUT
    assert (tmp_path / "without" / "items.csv").read_text() == ITEMS
    assert (ids, load_log(config).user_ids.to_pylist()) == (["ada"], ["007", "bob"])
    assert (tmp_path / "interactions.csv").read_text() == CSV


def test_jsonl_keeps_every_other_line(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text(ITEMS)
    (tmp_path / "interactions.jsonl").write_text("\n".join(["", *JSONL, " "]))
    _, ids = without(tmp_path, "12")
    assert (tmp_path / "without" / "interactions.jsonl").read_text() == f"{JSONL[2]}\n"
    assert ids == ["12"]


@pytest.mark.parametrize("compression", ["zstd", "none"])
def test_parquet_keeps_its_columns_groups_and_compression(tmp_path: Path, compression: str) -> None:
    (tmp_path / "items.csv").write_text(ITEMS)
    table = pa.table(
        {
            "user_id": pa.array(["ada-lovelace", "bob", "ada-lovelace", "cyd", "bob"]),
            "item_id": pa.array(["x", "x", "y", "y", "y"]).dictionary_encode(),
            "timestamp": pa.array([1, 2, 3, 4, 5], pa.timestamp("ms")),
            "more": [[1], [], None, [2, 3], [4]],
        }
    ).replace_schema_metadata({"made": "by hand"})
    path = tmp_path / "interactions.parquet"
    pq.write_table(table, path, row_group_size=2, compression=compression)
    without(tmp_path, "ada-lovelace")
    written = tmp_path / "without" / "interactions.parquet"
    left = pq.read_table(written)
    assert left.equals(table.take([1, 3, 4]))
    assert left.schema.metadata[b"made"] == b"by hand"
    kept = [pq.ParquetFile(one).metadata for one in (path, written)]
    assert [part.num_row_groups for part in kept] == [3, 3]
    assert len({part.row_group(0).column(0).compression for part in kept}) == 1
    found = find_ids(list_files([tmp_path]), ["ada-lovelace"])
    assert list(found) == [path]  # also where bytes are compressed


def test_pseudonyms_find_raw_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMREC_TEST_USER_KEY", "k" * 40)
    (tmp_path / "items.csv").write_text(ITEMS)
    (tmp_path / "interactions.csv").write_text(CSV)
    names = Pseudonymizer(PseudonymConfig(key_env="LLMREC_TEST_USER_KEY"))
    _, ids = without(tmp_path, names.pseudonym("ada"), "007", names=names)
    assert ids == ["007", "ada"]
    assert "ada" not in (tmp_path / "without" / "interactions.csv").read_text()


def test_what_cannot_be_done_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not in a file that can be changed"):
        write_log_without_users(DataConfig("movielens_small"), np.zeros(0, dtype=np.bool_), tmp_path / "without")
    (tmp_path / "items.csv").write_text(ITEMS)
    (tmp_path / "interactions.csv").write_text("user_id,item_id,timestamp\nada,x,1\n")
    with pytest.raises(DataError, match="1 records by line ends, but 5 by the reader") as told:
        write_log_without_users(DataConfig(str(tmp_path)), np.ones(5, dtype=np.bool_), tmp_path / "without")
    assert "parquet" in str(told.value)


def test_a_search_finds_every_spelling(tmp_path: Path) -> None:
    (tmp_path / "plain").write_bytes(b"\0\0ada-lovelace" * 2)
    (tmp_path / "state.db-wal").write_text("ada-lovelace")
    (tmp_path / "escaped.json").write_text('["zo\\u00eb-zo\\u00eb"]')
    (tmp_path / "empty").touch()
    pq.write_table(pa.table({"n": [1234567, 7], "list": [["zoë-zoë"], []]}), tmp_path / "a.parquet", compression="zstd")
    files = list_files([tmp_path / "plain", tmp_path / "state.db", tmp_path])
    found = {path.name: n for path, n in find_ids(files, ["ada-lovelace", "zoë-zoë", "1234567"]).items()}
    assert found.pop("a.parquet") >= 2  # its statistics may tell too
    assert found == {"plain": 2, "state.db-wal": 1, "escaped.json": 1}
    assert not find_ids(files, ["somebody-else"])
    assert filter_searchable_ids(["ada", "ada-lovelace", "12", "ada-lovelace"]) == ["ada-lovelace"]


def test_a_published_form_keeps_its_form(tmp_path: Path) -> None:
    (tmp_path / "u.data").write_bytes(b"1|x|1\n2|y|2\n")
    (tmp_path / "items.csv").write_text(ITEMS)
    style = TableFormat("csv", columns=("user_id", "item_id", "timestamp"), encoding="latin-1")
    config = DataConfig(str(tmp_path), interactions="u.data", interactions_format=style)
    records = find_user_records(config, ["1"], PLAIN_IDS)
    read = write_log_without_users(config, records.mask, tmp_path / "without")
    assert (tmp_path / "without" / "interactions.data").read_text() == "2|y|2\n"
    assert load_log(read).user_ids.to_pylist() == ["2"]


@pytest.mark.parametrize("suffix", [".csv.gz", ".orc"])
def test_a_form_that_cannot_be_copied_is_refused(tmp_path: Path, suffix: str) -> None:
    (tmp_path / "items.csv").write_text(ITEMS)
    (tmp_path / f"interactions{suffix}").write_bytes(b"x")
    with pytest.raises(DataError, match="Write the table as one file in parquet, csv or jsonl"):
        write_log_without_users(DataConfig(str(tmp_path)), np.zeros(1, dtype=np.bool_), tmp_path / "without")


def test_a_folder_of_parts_is_refused_with_what_to_write(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text(ITEMS)
    (tmp_path / "interactions").mkdir()
    for part in "ab":
        (tmp_path / "interactions" / f"{part}.csv").write_text(CSV)
    config = DataConfig(str(tmp_path))
    with pytest.raises(DataError, match=r"interactions: 2 files, from which no rows can be removed\. Write"):
        write_log_without_users(config, np.zeros(8, dtype=np.bool_), tmp_path / "without")
    assert not (tmp_path / "without").exists()


def test_escaped_quotation_marks_close_nothing(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text(ITEMS)
    rows = [
        r'ada,x,1,"a \"b, c"' + "\n",
        r'bob,x,2,"d\\"' + "\n",
        r'ada,y,3,"\"' + "\n" + r'e"' + "\n",
        "bob,y,4,f\n",
    ]
    (tmp_path / "interactions.csv").write_text("".join(["user_id,item_id,timestamp,note\n", *rows]))
    config = DataConfig(str(tmp_path), interactions_format=TableFormat(escape="\\"))
    records = find_user_records(config, ["ada"], PLAIN_IDS)
    write_log_without_users(config, records.mask, tmp_path / "without")
    kept = "".join(["user_id,item_id,timestamp,note\n", rows[1], rows[3]])
    assert (tmp_path / "without" / "interactions.csv").read_text() == kept


def test_text_that_turns_out_to_be_utf16_is_refused(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text(ITEMS)
    (tmp_path / "interactions.csv").write_bytes(CSV.encode("utf-16"))
    config = DataConfig(str(tmp_path))
    records = find_user_records(config, ["ada"], PLAIN_IDS)
    with pytest.raises(DataError, match="text in utf-16, whose lines cannot be copied one by one"):
        write_log_without_users(config, records.mask, tmp_path / "without")
