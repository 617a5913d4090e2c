"""Reader of the files of one table, of any kind, as one Arrow table with plain types."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.orc
import pyarrow.parquet as pq

from llmrec.config.data import TableFormat
from llmrec.data.checks import check_unique_columns, validate_table
from llmrec.data.problems import NamedTable
from llmrec.data.readers.csv_files import explain_header, read_csv
from llmrec.data.readers.json_files import read_json
from llmrec.data.readers.places import DataFile, Role, open_bytes
from llmrec.data.readers.values import normalize_table, read_features
from llmrec.data.texts.field_texts import format_values, is_text
from llmrec.errors import DataError

ROW_HINT = (
    "Lines before the names of the columns have to go; data.{role}_format takes the separator, the quotes and the sign "
    "that escapes them; data.faulty_rows: drop leaves such lines out."
)


class TableRequest(NamedTuple):
    """Request to read one table."""

    role: Role
    """Name of the table."""
    ids: Sequence[str]
    """Columns that stay text in files without types."""
    needed: Sequence[str]
    """Columns that have to be there."""
    only_needed: bool
    """Whether other columns may be left out."""
    style: TableFormat
    """Form of the files."""
    quoted: bool
    """Whether messages may quote rows, which may name a user."""
    skip_faulty: bool
    """Whether rows that cannot be read are skipped."""


def read_parts(files: Sequence[DataFile], request: TableRequest) -> NamedTable:
    """Read the files of a table as one.

    Args:
        files: The files, at least one.
        request: What is read of them.

    Returns:
        The table, with plain types.

    Raises:
        DataError: If a file cannot be read, or the files do not fit together.
    """
    parts = [_read_checked(file, request) for file in _drop_blank(files)]
    n_skipped = sum(part.n_skipped for part in parts)
    if len(parts) == 1:
        return parts[0]
    name = f"{parts[0].name} and {len(parts) - 1} more"
    known = {column for part in parts for column in part.table.column_names}
    for part in parts:
        if lacking := [column for column in request.needed if column in known - set(part.table.column_names)]:
            problem = f"{part.name}: no column {', '.join(lacking)}, which other files of the {request.role} have"
            raise DataError(name, [f"{problem}. Give a folder or pattern with the parts of one table."])
    filled = [part.table for part in parts if part.table.num_rows] or [parts[0].table]
    try:
        table = pa.concat_tables(_align_types(filled), promote_options="permissive")
    except (pa.ArrowException, ValueError) as error:
        raise DataError(name, [f"{name}: parts of different types ({error}). Write them with one schema."]) from error
    return NamedTable(name, table, n_skipped)


def _drop_blank(files: Sequence[DataFile]) -> Sequence[DataFile]:
    """Leave out parts of text without a single sign, as Spark writes them for parts without rows."""
    if len(files) == 1:
        return files
    return [file for file in files if file.kind not in ("csv", "jsonl") or not _is_blank(file.path)] or files[:1]


def _is_blank(path: Path) -> bool:
    with open_bytes(path) as file:
        return not file.read(1)


def _align_types(tables: list[pa.Table]) -> list[pa.Table]:
    """Convert a column to text in all parts if it is text in some, as files without types may have it."""
    for name in {name for table in tables for name in table.column_names}:
        holders = [table for table in tables if name in table.column_names]
        kinds = [table.schema.field(name).type for table in holders]
        texts = [is_text(kind) for kind in kinds]
        encoded = [pa.types.is_dictionary(kind) for kind in kinds]
        if any(texts) and not (all(texts) and (all(encoded) or not any(encoded))):
            tables = [_write_as_text(table, name) if name in table.column_names else table for table in tables]
    return tables


def _write_as_text(table: pa.Table, name: str) -> pa.Table:
    column = table[name]
    text = format_values(pa.concat_arrays(column.chunks or [pa.nulls(0, column.type)]))
    return table.set_column(table.column_names.index(name), name, text)


def _read_checked(file: DataFile, request: TableRequest) -> NamedTable:
    """Read a file, normalize and check its columns, and add those that its folders give."""
    name, kind = file.path.name, file.kind
    try:
        table, n_skipped = _read_file(file, request)
        table = normalize_table(table, wanted=request.needed)
        for column, value in file.partition.items():
            if column not in table.column_names:
                values = pa.array([value], pa.large_string()).take(pa.array([0] * table.num_rows, pa.int32()))
                table = table.append_column(column, values)
        return NamedTable(name, validate_table(name, table, request.needed), n_skipped)
    except (pa.ArrowException, OSError, ValueError, OverflowError, EOFError) as error:
        if isinstance(error, DataError):
            raise
        reason = _describe_read_error(error, quoted=request.quoted)[:500]
        encoding = f" If its text is in another encoding, set data.{request.role}_format.encoding."
        hint = encoding if "UTF" in reason.upper() or "codec" in reason else ""
        if "CSV parse error: Expected" in reason:
            hint = f" {ROW_HINT.format(role=request.role)}"
        problem = f"{name}: unreadable as {kind} ({reason}). Repair it or write it again.{hint}"
        raise DataError(str(file.path), [problem]) from (error if request.quoted else None)


def _read_file(file: DataFile, request: TableRequest) -> tuple[pa.Table, int]:
    """Read a file, and count its rows that were skipped."""
    path, columns = file.path, request.needed if request.only_needed else None
    in_file = None if columns is None else [name for name in columns if name not in file.partition]
    if file.kind == "parquet":
        return _read_parquet(path, request, in_file), 0
    if file.kind == "arrow":
        return read_arrow(path), 0
    if file.kind == "orc":
        return pyarrow.orc.read_table(str(path)), 0
    if file.kind == "jsonl":
        return read_json(path, columns=in_file, wanted=request.needed, encoding=request.style.encoding), 0
    read = read_csv(path, request.style, ids=request.ids, columns=in_file, skip_faulty=request.skip_faulty)
    if error := explain_header(path, request.role, request.needed, [*read.table.column_names, *file.partition]):
        raise error
    return read.table, read.n_skipped


def _read_parquet(path: Path, request: TableRequest, columns: Sequence[str] | None) -> pa.Table:
    schema = pq.read_schema(path)
    check_unique_columns(path.name, schema.names, request.needed)
    # If a column is missing, all are read, so that the message can list the columns of the file.
    if columns is None or not set(columns) <= set(schema.names):
        return pq.read_table(path, partitioning=None)
    read = {name: _read_column(path, name, encode=name in request.ids) for name in dict.fromkeys(columns)}
    return pa.table(read, metadata=schema.metadata if read_features(schema.metadata) else None)


def read_arrow(path: Path) -> pa.Table:
    """Read a file in Arrow's own form: with random access, such as Feather, or a stream.

    Args:
        path: The file.

    Returns:
        The table.

    Raises:
        pa.ArrowInvalid: If the file cannot be read.
    """
    try:
        with pa.ipc.open_file(str(path)) as file:
            return file.read_all()
    except pa.ArrowInvalid:
        with pa.ipc.open_stream(pa.input_stream(str(path))) as stream:
            return stream.read_all()


def _read_column(path: Path, name: str, *, encode: bool) -> pa.ChunkedArray:
    """Read a column of a parquet file; `encode` stores repeated text once, with a number for each row."""
    column = pq.read_table(path, columns=[name], pre_buffer=False, partitioning=None)[name]
    if not encode or not pa.types.is_string(column.type) or not len(column):
        return column
    encoded = column.dictionary_encode()  # all chunks share one dictionary; a single chunk shows it
    indices = pa.concat_arrays([chunk.indices for chunk in encoded.chunks])
    return pa.chunked_array([pa.DictionaryArray.from_arrays(indices, encoded.chunk(0).dictionary)])


def _describe_read_error(error: Exception, *, quoted: bool) -> str:
    """Format a read error; unless `quoted`, only its kind, because readers quote the row that failed."""
    return (
        " ".join(str(error).split())
        if quoted
        else f"{type(error).__name__}, details hidden because they may name a user"
    )
