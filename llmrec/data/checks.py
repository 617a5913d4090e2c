"""Whether a table that could be read is what its writer meant, as far as a reader can tell."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from llmrec.errors import DataError

BLOCK = 1 << 20


DEEPEST = 100  # what parquet's reader allows
NESTING_BLOCK = 1 << 24  # bytes that are looked at together, and the rest of the line they end in
TEXT = re.compile(rb'"(?:[^"\\\\]|\\\\.)*"', re.DOTALL)


def validate_table(name: str, table: pa.Table, columns: Sequence[str] | None) -> pa.Table:
    """The table, unless what is in it is not what its types say, or a wanted column (None: any) is there twice.

    Raises:
        DataError: text that is not UTF-8, or a name of several columns. pa.ArrowInvalid: a damaged table.
    """
    names, problems = table.column_names, []
    check_unique_columns(name, names, columns)
    for field in table.schema:
        try:
            column = table[field.name] if names.count(field.name) == 1 else None
            if column is not None:
                column.validate(full=True)
                if pa.types.is_binary(field.type) and name.endswith(".csv"):  # what the reader makes of other encodings
                    column.cast(pa.string())
        except pa.ArrowInvalid as error:
            if "UTF8" not in str(error):
                raise
            problems.append(f"{name}, column '{field.name}': text that is not UTF-8 ({error}); write the file as UTF-8")
    if problems:
        raise DataError(name, problems)
    return table


def check_unique_columns(name: str, names: Sequence[str], columns: Sequence[str] | None) -> None:
    twice = sorted({column for column in columns or names if names.count(column) > 1})
    if twice:
        listed = ", ".join(map(repr, twice))
        raise DataError(name, [f"{name}: {listed} name more than one column each; rename or remove all but one"])


def check_closed_quotes(path: Path, table: pa.Table) -> None:
    """Raises DataError where the last row is all that follows on a quote without an end, many rows maybe."""
    last = table.slice(max(table.num_rows - 1, 0)).to_pylist()
    if last and any("\n" in value for value in last[0].values() if isinstance(value, str)):
        with path.open("rb") as file:
            quotes = sum(block.count(b'"') for block in iter(lambda: file.read(BLOCK), b""))
        if quotes % 2:
            problem = f'a quote opens in row {table.num_rows} and never ends; close it, or write "" for the sign itself'
            raise DataError(str(path), [f"{path.name}: {problem}"])


def check_json_nesting(path: Path) -> None:
    """
    Raises:
        DataError: a line with brackets open more than `DEEPEST` deep.
    """
    before = 0
    with path.open("rb") as file:
        while block := file.read(NESTING_BLOCK) + file.readline():
            signs = np.frombuffer(block, np.uint8)
            ends = np.append(np.flatnonzero(signs == ord("\n")), len(signs) - 1)
            opened = np.cumsum((signs == ord("{")) | (signs == ord("[")), dtype=np.int64)[ends]
            for line in np.flatnonzero(np.diff(opened, prepend=0) > DEEPEST):  # which may be in a text, or closed again
                if _measure_depth(block[ends[line - 1] + 1 if line else 0 : ends[line] + 1]) > DEEPEST:
                    problem = f"line {before + line + 1} nests more than {DEEPEST} deep; write plain fields"
                    raise DataError(str(path), [f"{path.name}: {problem}"])
            before += len(ends) - 1


def _measure_depth(line: bytes) -> int:
    signs: NDArray[np.uint8] = np.frombuffer(TEXT.sub(b"", line), np.uint8)
    steps = np.isin(signs, list(b"{[")).astype(np.int64) - np.isin(signs, list(b"}]"))
    return int(np.cumsum(steps).max(initial=0))
