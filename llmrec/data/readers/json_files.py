"""Reader of JSON with an object in each line, of JSON lists of objects, and of lines of Python dicts."""

from __future__ import annotations

import ast
import io
import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.json

from llmrec.data.checks import check_json_nesting
from llmrec.data.readers.csv_files import is_utf8, list_inexact, read_in_blocks
from llmrec.data.readers.places import open_bytes
from llmrec.data.readers.rows import WrittenNumber, build_table
from llmrec.data.readers.values import TYPE_MARK

FIRST_BLOCK = 1 << 24  # bytes
SAMPLE_ROWS = 1000
OVER_LINES = re.compile(r"\{\s*\n|\{[^{}\n]*\}[ \t]*\{")  # an object over several lines, or two in one line
BETWEEN = re.compile(r"[\s,]*")  # signs between two objects
PLAIN_KINDS = {str: pa.string(), int: pa.int64()}


def read_json(
    path: Path, *, columns: Sequence[str] | None, wanted: Collection[str] = (), encoding: str = "utf-8"
) -> pa.Table:
    """Read a file of JSON objects; what cannot be one column of one type is read value by value.

    Args:
        path: The file.
        columns: Columns that are needed; None for all.
        wanted: Columns that stay even if they have no plain form, so that a check can name them.
        encoding: Encoding of the text.

    Returns:
        The table.

    Raises:
        DataError: If a line nests too deep.
        ValueError: If the file cannot be read.
    """
    with open_bytes(path) as file:
        form = _see_form(file, encoding)
    if form == "lines" and is_utf8(encoding):
        with open_bytes(path) as file:
            check_json_nesting(path, file)
        try:
            return _check_table(read_in_blocks(lambda size: _read_lines(path, size, columns), FIRST_BLOCK))
        except (pa.ArrowException, ValueError):  # columns of several types, or a damaged line, which is found below
            pass
    try:
        return _check_table(build_table(iterate_rows(path, encoding=encoding), wanted=wanted))
    except RecursionError as error:
        raise ValueError("values that nest too deep; write plain fields") from error


def _check_table(table: pa.Table) -> pa.Table:
    """Refuse a table without plain values, such as one object that holds all rows."""
    one_object = table.num_rows == 1 and all(_is_nested(field.type) for field in table.schema)
    if one_object or not table.num_columns:
        raise ValueError("no rows of plain values; write a list of objects, or an object in each line")
    return table


def _is_nested(kind: pa.DataType) -> bool:
    return bool(pa.types.is_nested(kind) or pa.types.is_null(kind))


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


def iterate_rows(path: Path, *, encoding: str = "utf-8") -> Iterator[dict[str, Any]]:
    """Yield the objects of a file, in any of the forms.

    Args:
        path: The file.
        encoding: Encoding of the text.

    Yields:
        Values by name; numbers with a fraction keep their text.

    Raises:
        ValueError: If a line cannot be read.
    """
    with open_bytes(path) as file:
        form = _see_form(file, encoding)
    with open_bytes(path) as file:
        lines = io.TextIOWrapper(file, encoding="utf-8-sig" if is_utf8(encoding) else encoding, newline="\n")
        if form == "list":
            yield from _check_rows(json.loads(lines.read(), parse_float=WrittenNumber))
            return
        if form == "objects":
            yield from _iterate_objects(lines.read())
            return
        parse = _parse_python if form == "python" else _parse_json
        for number, line in enumerate(lines, start=1):
            if text := line.strip():
                yield _parse_line(parse, text, number)


def _see_form(file: BinaryIO, encoding: str) -> str:
    """Return "list", "python", "objects" or "lines" by the beginning of a file."""
    head = file.read(1 << 12).decode(encoding, errors="replace").lstrip("\ufeff \t\r\n")
    if head.startswith("["):
        return "list"
    if head.startswith(("{'", "{u'")):
        return "python"
    return "objects" if OVER_LINES.match(head) else "lines"


def _parse_python(text: str) -> Any:
    """Parse a Python dict, also with nan and inf, which have no literal."""
    try:
        return ast.literal_eval(text)
    except ValueError:
        return ast.literal_eval(_NumberNames().visit(ast.parse(text, mode="eval")))


class _NumberNames(ast.NodeTransformer):
    """Replaces the names nan and inf by nothing."""

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return ast.Constant(None) if node.id in ("nan", "inf") else node

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.AST:
        named = isinstance(node.operand, ast.Name) and isinstance(node.op, ast.USub)
        return self.visit(node.operand) if named else node


def _iterate_objects(text: str) -> Iterator[dict[str, Any]]:
    """Yield objects that follow each other, each over several lines."""
    decoder, place = json.JSONDecoder(parse_float=WrittenNumber), 0
    while place < len(text):
        row, end = decoder.raw_decode(text, place)
        if not isinstance(row, dict):
            raise ValueError(f"sign {place + 1}: not an object")
        yield row
        between = BETWEEN.match(text, end)
        place = between.end() if between else end


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
    if list_inexact(table):
        raise ValueError("whole numbers of many digits, which are read one by one")
    # The reader turns text that looks like a time into times and drops the offset: read the text instead.
    fields = [(field.name, _as_written(field.type)) for field in table.schema]
    text = pa.schema([(name, kind) for name, kind in fields if kind != table.schema.field(name).type])
    return read(explicit_schema=text) if text.names else table


def _as_written(kind: pa.DataType) -> pa.DataType:
    """Return the type with text in place of times."""
    if pa.types.is_list(kind):
        return pa.list_(_as_written(kind.value_type))
    if pa.types.is_struct(kind) and any(field.name.startswith(TYPE_MARK) for field in kind):
        raise ValueError("values with the name of their type, which are read one by one")
    return pa.string() if pa.types.is_timestamp(kind) else kind


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
