"""Reader of csv, tsv and other files with a row in each line and a separator between values."""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from llmrec.config.data import TableFormat
from llmrec.data.checks import check_closed_quotes, check_unique_columns
from llmrec.data.readers.places import COMPRESSIONS, open_bytes, split_name
from llmrec.errors import DataError

FIRST_BLOCK, LARGEST_BLOCK = 1 << 20, (1 << 31) - 2  # bytes
BEGINNING = 1 << 16  # bytes in which the first line is looked for
SEPARATORS = ("\t", "::", ";", "|")  # tried in this order where the first line has no comma
TYPE_SUFFIX = re.compile(r":(token|float)(_seq)?$")
LARGEST_EXACT, LARGEST_WHOLE = 2.0**53, 1e30  # fractions lose digits of whole numbers from the first on
UNIT_SEPARATOR = "\x1f"  # replaces separators of several characters, which the reader does not take


class CsvRows(NamedTuple):
    """Rows of a csv file."""

    table: pa.Table
    """The rows that were read."""
    n_skipped: int
    """Number of lines with too many or too few values."""


def read_csv(
    path: Path, style: TableFormat, *, ids: Sequence[str], columns: Sequence[str] | None, skip_faulty: bool = False
) -> CsvRows:
    """Read a csv file.

    Args:
        path: The file.
        style: Separator, columns, encoding and quotes.
        ids: Columns that stay text as written: 007 is not 7.
        columns: Columns that are needed; others are not read if all of them are there. None for all.
        skip_faulty: Whether lines with too many or too few values are skipped.

    Returns:
        The rows.

    Raises:
        DataError: If a quote is not closed, or a needed column occurs twice.
        pa.ArrowInvalid: If the file cannot be read.
        UnicodeError: If the text is in another encoding.
    """
    style = see_encoding(path, style)
    names, separator = read_header(path, style)
    check_unique_columns(path.name, names, columns if columns is not None else ids)
    chosen = list(dict.fromkeys(columns)) if columns is not None and set(columns) <= set(names) else None
    skipped: list[int] = []

    def skip(row: pyarrow.csv.InvalidRow) -> str:
        skipped.append(1)
        return "skip"

    parse = pyarrow.csv.ParseOptions(
        delimiter=separator if len(separator) == 1 else UNIT_SEPARATOR,
        quote_char='"' if style.quotes and len(separator) == 1 else False,
        escape_char=style.escape or False,
        newlines_in_values=style.quotes and len(separator) == 1,
        invalid_row_handler=skip if skip_faulty else None,
    )

    texts = list(ids)

    def read(block_size: int, include: Sequence[str] = ()) -> pa.Table:
        skipped.clear()
        convert = pyarrow.csv.ConvertOptions(
            column_types={name: pa.large_string() for name in texts}, include_columns=list(include)
        )
        named = names if style.columns or _has_types(path) else None
        options = pyarrow.csv.ReadOptions(
            block_size=block_size,
            column_names=named,
            skip_rows=int(style.columns is None and named is not None),
            encoding=style.encoding if len(separator) == 1 else "utf-8",
        )
        return pyarrow.csv.read_csv(_open(path, separator, style), options, parse, convert)

    table = read_in_blocks(lambda size: read(size, chosen or ()), FIRST_BLOCK)
    if inexact := list_inexact(table):
        texts += inexact
        table = read_in_blocks(lambda size: read(size, chosen or ()), FIRST_BLOCK)
    n_skipped = len(skipped)
    if style.quotes and len(separator) == 1:
        with open_bytes(path) as file:
            check_closed_quotes(path, file, lambda: read_in_blocks(read, FIRST_BLOCK))
    return CsvRows(table, n_skipped)


def see_encoding(path: Path, style: TableFormat) -> TableFormat:
    """Return the form of a file with the encoding that its first bytes state, if the settings name none.

    Args:
        path: The file.
        style: Form of the file.

    Returns:
        The form; UTF-16 for files that begin with the mark of it.
    """
    with open_bytes(path) as file:
        marked = file.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    return replace(style, encoding="utf-16") if marked and is_utf8(style.encoding) else style


def is_utf8(encoding: str) -> bool:
    """Return True for the names of UTF-8, with and without a mark at the beginning."""
    return codecs.lookup(encoding).name in ("utf-8", "utf-8-sig")


def list_inexact(table: pa.Table) -> list[str]:
    """List the columns of fractions that hold whole numbers of so many digits that fractions lose some.

    Args:
        table: A table that was read from text.

    Returns:
        Names of columns.
    """
    columns = [field.name for field in table.schema if pa.types.is_floating(field.type)]
    largest = {name: pc.max(pc.abs(pc.if_else(pc.is_finite(table[name]), table[name], 0))).as_py() for name in columns}
    return [name for name, size in largest.items() if size is not None and LARGEST_EXACT <= size < LARGEST_WHOLE]


def read_in_blocks(read: Callable[[int], pa.Table], size: int) -> pa.Table:
    """Read a file of lines in blocks, which grow if a line is longer.

    Args:
        read: Function that reads the file in blocks of a number of bytes.
        size: First size of a block in bytes.

    Returns:
        The table.

    Raises:
        pa.ArrowInvalid: If the file cannot be read.
    """
    while True:
        try:
            return read(size)
        except pa.ArrowInvalid as error:
            if "straddl" not in str(error) or size >= LARGEST_BLOCK:
                raise
        size = min(size * 16, LARGEST_BLOCK)


def read_header(path: Path, style: TableFormat) -> tuple[list[str], str]:
    """Read the names of the columns from the first line, and see which separator it has.

    Args:
        path: The file.
        style: Form of the file.

    Returns:
        Names of the columns, and the separator.
    """
    with open_bytes(path) as file:
        head = file.read(BEGINNING).decode(style.encoding, errors="replace").lstrip("\ufeff")
    line = re.split(r"\r\n|\r|\n", head, maxsplit=1)[0]
    separator = style.separator or guess_separator(path, line)
    if style.columns is not None:
        return list(style.columns), separator
    names = line.split(separator)
    if _has_types(path):
        names = [TYPE_SUFFIX.sub("", name) for name in names]
    return [name.strip('"') for name in names] if style.quotes else names, separator


def _has_types(path: Path) -> bool:
    """Return True for the atomic files of RecBole, whose columns are named like user_id:token."""
    return split_name(path)[1] in (".inter", ".item")


def guess_separator(path: Path, line: str) -> str:
    """Return the separator that the name or the first line of a file shows; a comma if neither does.

    Args:
        path: The file.
        line: Its first line.

    Returns:
        The separator.
    """
    if split_name(path)[1] in (".tsv", ".tab"):
        return "\t"
    if "," in line:
        return ","
    return next((separator for separator in SEPARATORS if separator in line), ",")


def explain_header(path: Path, role: str, wanted: Sequence[str], names: Sequence[str]) -> DataError | None:
    """Return an error if the first line has none of the wanted names: it may be a row, or be split wrongly.

    Args:
        path: The file.
        role: Name of the table in the settings.
        wanted: Columns that are needed.
        names: Columns of the file.

    Returns:
        The error, or None.
    """
    if not wanted or set(wanted) & set(names):
        return None
    quoted = ", ".join(repr(name[:40]) for name in names[:8])
    problem = (
        f"{path.name}: the first line has none of the columns {', '.join(dict.fromkeys(wanted))} but {quoted}. "
        f"Name the right columns; if it has no header, name them all in data.{role}_format.columns; if it is cut at "
        f"the wrong signs, set data.{role}_format.separator."
    )
    return DataError(str(path), [problem])


def _open(path: Path, separator: str, style: TableFormat) -> object:
    """Open a file for Arrow's reader; with a separator of several characters, as UTF-8 with another one."""
    if len(separator) > 1:
        with open_bytes(path) as file:
            text = file.read().decode(style.encoding)
        return pa.BufferReader(text.replace(separator, UNIT_SEPARATOR).encode())
    codec = COMPRESSIONS.get(split_name(path)[2])
    return pa.PythonFile(open_bytes(path)) if codec == "xz" else pa.input_stream(str(path), compression=codec)
