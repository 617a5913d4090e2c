"""The first rows of data files, to see which columns they have."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from llmrec.data.readers.files import EXTENSIONS
from llmrec.errors import DataError


def list_tables(folder: Path) -> list[Path]:
    """List the files of a folder that can hold a table, in the order of their names."""
    return sorted(path for path in folder.iterdir() if path.suffix in EXTENSIONS and path.is_file())


def read_sample(path: Path, n_rows: int = 10_000) -> pa.Table:
    """Read the first rows of a file, with the types that they suggest.

    Args:
        path: File in parquet, csv or jsonl.
        n_rows: Rows to read, at most.

    Returns:
        A table.

    Raises:
        DataError: If the file cannot be read.
    """
    try:
        if path.suffix == ".parquet":
            with pq.ParquetFile(path) as file:
                batches = list(islice(file.iter_batches(n_rows), 1))
                return pa.Table.from_batches(batches, file.schema_arrow)
        if path.suffix == ".csv":
            with pyarrow.csv.open_csv(path) as reader:
                return pa.Table.from_batches(list(islice(reader, 1)), reader.schema).slice(0, n_rows)
        with path.open("rb") as lines:
            rows = [json.loads(line) for line in islice(lines, n_rows) if line.strip()]
            return pa.Table.from_pylist(rows)  # arrow's own reader would drop the zone of times
    except (OSError, ValueError) as error:  # arrow's errors are ValueErrors
        raise DataError(str(path), [f"{error}. Write a table with a row of column names."]) from error
