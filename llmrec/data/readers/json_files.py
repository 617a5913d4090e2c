"""Reader of JSON with an object in each line, of JSON lists of objects, and of lines of Python dicts."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.json

from llmrec.data.checks import check_json_nesting
from llmrec.data.readers.csv_files import read_in_blocks
from llmrec.data.readers.places import open_bytes
from llmrec.data.readers.rows import WrittenNumber, build_table

FIRST_BLOCK = 1 << 24  # bytes
SAMPLE_ROWS = 1000
PLAIN_KINDS = {str: pa.string(), int: pa.int64()}


def read_json(path: Path, *, columns: Sequence[str] | None) -> pa.Table:
    """Read a file of JSON objects; what cannot be one column of one type is read value by value.

    Args:
        path: The file.
        columns: Columns that are needed; None for all.

    Returns:
        The table.

    Raises:
        DataError: If a line nests too deep.
        ValueError: If the file cannot be read.
    """
    with open_bytes(path) as file:
        form = _see_form(file)
    if form == "lines":
        with open_bytes(path) as file:
            check_json_nesting(path, file)
        try:
            return read_in_blocks(lambda size: _read_lines(path, size, columns), FIRST_BLOCK)
        except (pa.ArrowException, ValueError):  # columns of several types, or a damaged line, which is found below
            pass
    table = build_table(iterate_rows(path), wanted=columns or ())
    if not table.num_columns:
        raise ValueError("no objects with values")
    return table


def read_json_sample(path: Path, n_rows: int) -> pa.Table:
    """Read the first rows of a file of JSON objects.

    Args:
        path: The file.
        n_rows: Rows to read, at most.

    Returns:
        The table.

    Raises:
        ValueError: If the rows cannot be read.
    """
    return build_table(islice(iterate_rows(path), n_rows), wanted=())


def iterate_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the objects of a file, in any of the forms.

    Args:
        path: The file.

    Yields:
        Values by name; numbers with a fraction keep their text.

    Raises:
        ValueError: If a line cannot be read.
    """
    with open_bytes(path) as file:
        form = _see_form(file)
    with open_bytes(path) as file:
        if form == "list":
            yield from _check_rows(json.loads(file.read().decode("utf-8-sig"), parse_float=WrittenNumber))
            return
        parse = ast.literal_eval if form == "python" else _parse_json
        for number, line in enumerate(file, start=1):
            text = line.decode("utf-8-sig" if number == 1 else "utf-8").strip()
            if text:
                yield _parse_line(parse, text, number)


def _see_form(file: BinaryIO) -> str:
    """Return "list", "python" or "lines" by the beginning of a file."""
    head = file.read(1 << 12).decode("utf-8", errors="replace").lstrip("\ufeff \t\r\n")
    if head.startswith("["):
        return "list"
    return "python" if head.startswith(("{'", "{u'")) else "lines"


def _parse_json(text: str) -> Any:
    return json.loads(text, parse_float=WrittenNumber)


def _parse_line(parse: Callable[[str], Any], text: str, number: int) -> dict[str, Any]:
    try:
        row = parse(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError) as error:
        reason = f"{type(error).__name__}: {error}"[:200]
        raise ValueError(f"line {number}: {reason}") from error
    if not isinstance(row, Mapping):
        raise ValueError(f"line {number}: not an object")
    return dict(row)


def _check_rows(document: Any) -> list[dict[str, Any]]:
    if not all(isinstance(row, dict) for row in document):
        raise ValueError("the list holds other values than objects")
    return list(document)


def _read_lines(path: Path, block_size: int, columns: Collection[str] | None) -> pa.Table:
    """Read lines by Arrow: the needed columns with the types of the first rows, or all of them."""
    options = pyarrow.json.ReadOptions(block_size=block_size)

    def read(**parse: Any) -> pa.Table:
        with open_bytes(path) as file:
            return pyarrow.json.read_json(pa.PythonFile(file), options, pyarrow.json.ParseOptions(**parse))

    if columns is not None and (schema := _sample_schema(path, columns)) is not None:
        return read(explicit_schema=schema, unexpected_field_behavior="ignore")
    table = read()
    # The reader turns text that looks like a time into times and drops the offset: read the text instead.
    text = pa.schema([(field.name, pa.string()) for field in table.schema if pa.types.is_timestamp(field.type)])
    return read(explicit_schema=text) if text.names else table


def _sample_schema(path: Path, columns: Collection[str]) -> pa.Schema | None:
    """Return the types of columns of text and whole numbers in the first rows; None if there are others."""
    seen: dict[str, set[type]] = {name: set() for name in columns}
    for row in islice(iterate_rows(path), SAMPLE_ROWS):
        for name in columns:
            seen[name].add(type(row.get(name)))
    kinds = {name: found - {type(None)} for name, found in seen.items()}
    if not all(len(found) == 1 and found <= set(PLAIN_KINDS) for found in kinds.values()):
        return None
    return pa.schema([(name, PLAIN_KINDS[found.pop()]) for name, found in kinds.items()])
