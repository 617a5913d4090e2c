"""The first rows of data files, to see which columns they have."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.orc
import pyarrow.parquet as pq

from llmrec.config.data import TableFormat
from llmrec.data.readers.csv_files import BEGINNING, read_header
from llmrec.data.readers.json_files import read_json_sample
from llmrec.data.readers.places import COMPRESSIONS, find_kind, split_name
from llmrec.data.readers.tables import read_arrow
from llmrec.data.readers.values import normalize_table
from llmrec.errors import DataError


def list_tables(folder: Path) -> list[Path]:
    """List the files of a folder that can hold a table, in the order of their names; those in .txt are notes.

    Args:
        folder: The folder.

    Returns:
        The files.
    """
    return sorted(path for path in folder.iterdir() if _is_table(path))


def _is_table(path: Path) -> bool:
    return path.is_file() and find_kind(path) is not None and split_name(path)[1] != ".txt"


def read_sample(path: Path, n_rows: int = 10_000) -> pa.Table:
    """Read the first rows of a file, with the types that they suggest.

    Args:
        path: File of a known kind.
        n_rows: Rows to read, at most.

    Returns:
        A table.

    Raises:
        DataError: If the file cannot be read.
    """
    try:
        return normalize_table(_read_first(path, n_rows), wanted=())
    except (OSError, ValueError) as error:  # arrow's errors are ValueErrors
        raise DataError(str(path), [f"{path.name}: {error}. Write a table with a row of column names."]) from error


def _read_first(path: Path, n_rows: int) -> pa.Table:
    kind = find_kind(path)
    if kind == "parquet":
        with pq.ParquetFile(path) as file:
            batches = list(islice(file.iter_batches(n_rows), 1))
            return pa.Table.from_batches(batches, file.schema_arrow)
    if kind == "arrow":
        return read_arrow(path).slice(0, n_rows)
    if kind == "orc":
        return pyarrow.orc.ORCFile(str(path)).read().slice(0, n_rows)
    if kind == "jsonl":
        return read_json_sample(path, n_rows)
    _, separator = read_header(path, TableFormat())
    stream = pa.input_stream(str(path), compression=COMPRESSIONS.get(split_name(path)[2]))
    parse = pyarrow.csv.ParseOptions(delimiter=separator if len(separator) == 1 else ",", newlines_in_values=True)
    read = pyarrow.csv.ReadOptions(block_size=16 * BEGINNING)
    with pyarrow.csv.open_csv(stream, read, parse) as reader:
        return pa.Table.from_batches(list(islice(reader, 1)), reader.schema).slice(0, n_rows)
