"""Files of a table, and what is told of folders and files that are no table."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmrec.data.readers.places import find_in_folder, list_parts
from llmrec.errors import DataError


def problem_of(place: Path) -> str:
    with pytest.raises(DataError) as caught:
        list_parts(find_in_folder(place, "interactions") if place.is_dir() else place, "auto", "interactions")
    (problem,) = caught.value.problems
    return problem


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("log.zip", "Unpack it."),
        ("log.tar.gz", "Unpack it."),
        ("log.xlsx", "Export it as csv."),
        ("log.sqlite", "Export its tables as csv or parquet."),
        ("log.pkl", "Write it as parquet."),
        ("log.rds", "Write it as parquet."),
        ("log.xml", "Write it as csv or jsonl."),
        ("log.bin", "If it is one of them, set data.interactions_format.kind."),
    ],
)
def test_a_file_of_another_form_comes_with_its_own_remedy(tmp_path: Path, name: str, remedy: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    assert problem_of(tmp_path / name).endswith(f"Use one of .parquet, .csv, .jsonl. {remedy}")


def test_a_folder_of_other_forms_says_what_to_do_with_them(tmp_path: Path) -> None:
    (tmp_path / "interactions.csv.zip").write_bytes(b"x")
    (tmp_path / "items.xlsx").write_bytes(b"x")
    hint = "Other forms: interactions.csv.zip: unpack it; items.xlsx: export it as csv."
    assert problem_of(tmp_path).endswith(f"Keep one, or set data.interactions. {hint}")


@pytest.mark.parametrize(
    ("mark", "name"),
    [("_delta_log/0.json", "Delta"), (".hoodie/hoodie.properties", "Hudi"), ("metadata/v1.metadata.json", "Iceberg")],
)
@pytest.mark.parametrize("folder", [".", "interactions"])
def test_tables_whose_files_hold_deleted_rows_are_refused(tmp_path: Path, folder: str, mark: str, name: str) -> None:
    path = tmp_path / folder / mark
    path.parent.mkdir(parents=True)
    path.write_text("{}")
    (tmp_path / folder / "part.parquet").write_bytes(b"x")
    assert f"files of a table of {name}, which also hold deleted rows. Export it as parquet." in problem_of(tmp_path)
