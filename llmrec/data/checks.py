"""Checks that a table was read as its writer meant it, as far as a reader can detect."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from llmrec.errors import DataError

BLOCK = 1 << 20


MAX_DEPTH = 100  # levels; the limit of parquet's reader
NESTING_BLOCK = 1 << 24  # bytes that are checked at a time, plus the rest of their last line
TEXT = re.compile(rb'"(?:[^"\\\\]|\\\\.)*"', re.DOTALL)


def validate_table(name: str, table: pa.Table, columns: Sequence[str] | None) -> pa.Table:
    """Return a table after checking that its columns are unique and its values match their types.

    Args:
        name: Name of the table in messages.
        table: The table.
        columns: Columns that must be unique; None for all.

    Returns:
        The same table.

    Raises:
        DataError: If text is not UTF-8, or several columns have one name.
        pa.ArrowInvalid: If the table is damaged.
    """
    names, problems = table.column_names, []
    check_unique_columns(name, names, columns)
    for field in table.schema:
        try:
            column = table[field.name] if names.count(field.name) == 1 else None
            if column is not None:
                column.validate(full=True)
                if pa.types.is_binary(field.type) and name.endswith(".csv"):  # the reader's type for other encodings
                    column.cast(pa.string())
        except pa.ArrowInvalid as error:
            if "UTF8" not in str(error):
                raise
            problems.append(
                f"{name}, column '{field.name}': text that is not UTF-8 ({error}). Write the file as UTF-8."
            )
    if problems:
        raise DataError(name, problems)
    return table


def check_unique_columns(name: str, names: Sequence[str], columns: Sequence[str] | None) -> None:
    """Check that no column name occurs twice.

    Args:
        name: Name of the table in messages.
        names: Column names of the table.
        columns: Columns that must be unique; None for all.

    Raises:
        DataError: If several columns have one name.
    """
    twice = sorted({column for column in columns or names if names.count(column) > 1})
    if twice:
        listed = ", ".join(map(repr, twice))
        raise DataError(name, [f"{name}: {listed} name more than one column each. Rename or remove all but one."])


def check_closed_quotes(path: Path, file: BinaryIO, read: Callable[[], pa.Table]) -> None:
    """Check that a CSV file does not end inside an open quote, which would swallow many rows.

    Args:
        path: The file, for the message.
        file: Its bytes.
        read: Function that reads all of its columns.

    Raises:
        DataError: If a quote is not closed.
    """
    if sum(block.count(b'"') for block in iter(lambda: file.read(BLOCK), b"")) % 2 == 0:
        return
    table = read()
    last = table.slice(max(table.num_rows - 1, 0)).to_pylist()
    if last and any("\n" in value for value in last[0].values() if isinstance(value, str)):
        problem = (
            f'row {table.num_rows} opens a quote that never ends. Close it, write "" for a quotation mark, or set '
            "quotes: false in the format of the table if quotation marks enclose nothing."
        )
        raise DataError(str(path), [f"{path.name}: {problem}"])


def check_json_nesting(path: Path, file: BinaryIO) -> None:
    """Check that no line of a JSON Lines file nests more than `MAX_DEPTH` levels.

    Args:
        path: The file, for the message.
        file: Its bytes.

    Raises:
        DataError: If a line nests deeper.
    """
    before = 0
    while block := file.read(NESTING_BLOCK) + file.readline():
        signs = np.frombuffer(block, np.uint8)
        ends = np.append(np.flatnonzero(signs == ord("\n")), len(signs) - 1)
        opened = np.cumsum((signs == ord("{")) | (signs == ord("[")), dtype=np.int64)[ends]
        for line in np.flatnonzero(np.diff(opened, prepend=0) > MAX_DEPTH):  # may be in a text, or closed again
            if _measure_depth(block[ends[line - 1] + 1 if line else 0 : ends[line] + 1]) > MAX_DEPTH:
                problem = f"line {before + line + 1} nests more than {MAX_DEPTH} deep. Write plain fields."
                raise DataError(str(path), [f"{path.name}: {problem}"])
        before += len(ends) - 1


def _measure_depth(line: bytes) -> int:
    signs: NDArray[np.uint8] = np.frombuffer(TEXT.sub(b"", line), np.uint8)
    steps = np.isin(signs, list(b"{[")).astype(np.int64) - np.isin(signs, list(b"}]"))
    return int(np.cumsum(steps).max(initial=0))
