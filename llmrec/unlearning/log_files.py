"""Copies of a log's files without some users; all other records are copied as written."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from llmrec.config.data import DataConfig, TableFormat
from llmrec.data.ids import encode_ids
from llmrec.data.pseudonyms import Pseudonymizer
from llmrec.data.readers.csv_files import see_encoding
from llmrec.data.readers.files import list_data_files, read_events
from llmrec.data.readers.places import find_kind
from llmrec.errors import DataError
from llmrec.utils.arrays import Mask


class RemovedRecords(NamedTuple):
    """Records of a log's file that belong to given users."""

    mask: Mask
    """True for records of these users, (E,)."""
    ids: list[str]
    """Ids of the users that were found, as written in the file."""


def find_user_records(config: DataConfig, users: Sequence[str], names: Pseudonymizer) -> RemovedRecords:
    """Find the records of users in a log's file.

    Args:
        config: Sources and columns of the log.
        users: Ids, or pseudonyms if `names` makes them.
        names: Pseudonymizer of the user ids.

    Returns:
        The records and the ids that were found.

    Raises:
        DataError: If the file cannot be read.
        ConfigError: If the key of the pseudonyms is missing or wrong.
    """
    problems: list[str] = []
    events = read_events(config, [config.user_column], problems)
    if events is None:
        raise DataError(config.source or config.interactions or "data", problems)
    encoded = encode_ids(events.table[config.user_column])
    wanted = pa.array([names.pseudonym(user) for user in users], pa.large_string())
    found = np.asarray(pc.is_in(names.pseudonyms(encoded.ids), value_set=wanted))
    return RemovedRecords(np.append(found, False)[encoded.codes], encoded.ids.filter(pa.array(found)).to_pylist())


def write_log_without_users(config: DataConfig, removed: Mask, folder: Path) -> DataConfig:
    """Write a log and its items to a new folder, without some records.

    Args:
        config: Sources and columns of the log.
        removed: Records to leave out, (E,).
        folder: Folder to create.

    Returns:
        The configuration that reads the new log.

    Raises:
        DataError: If the records of a file cannot be separated, or the log is not in files on this machine.
    """
    events, items = list_data_files(config)
    folder.mkdir(parents=True)
    copy_without_records(events, folder / f"interactions{events.suffix}", removed, style=config.interactions_format)
    shutil.copyfile(items, folder / f"items{items.suffix}")
    # A file whose name does not show that it is a table has to be named.
    new_events, new_items = (
        None if find_kind(path) else f"{role}{path.suffix}"
        for role, path in (("interactions", events), ("items", items))
    )
    return replace(config, source=str(folder), interactions=new_events, items=new_items)


def copy_without_records(source: Path, target: Path, removed: Mask, *, style: TableFormat | None = None) -> None:
    """Copy a file without some records.

    Args:
        source: File to copy.
        target: File to write.
        removed: Records to leave out, (E,).
        style: Form of the file; None for the usual one.

    Raises:
        DataError: If the records of the file cannot be separated.
    """
    style = see_encoding(source, style or TableFormat())
    kind = find_kind(source) if style.kind == "auto" else style.kind
    if "\n".encode(style.encoding) != b"\n":
        problem = f"text in {style.encoding}, whose lines cannot be copied one by one"
        raise DataError(str(source), [f"{source.name}: {problem}. Convert the file to parquet and try again."])
    if kind == "parquet":
        _write_parquet(source, target, removed)
        return
    header = int(style.columns is None) if kind == "csv" else 0
    read = partial(_iterate_records, source, quotes=kind == "csv" and style.quotes, escape=style.escape)
    keep = np.concatenate([np.ones(header, dtype=np.bool_), ~removed])
    n_records = sum(1 for _ in read())
    if n_records != len(keep):
        counted = f"{n_records - header:,} records by line ends, but {len(removed):,} by the reader"
        raise DataError(str(source), [f"{source.name}: {counted}. Convert the file to parquet and try again."])
    with target.open("wb") as file:
        file.writelines(record for record, kept in zip(read(), keep, strict=True) if kept)


def _write_parquet(source: Path, target: Path, removed: Mask) -> None:
    """Copy a parquet file by groups of rows, with its schema and compression, and compute new statistics."""
    start = 0
    with pq.ParquetFile(source) as file:
        columns = file.metadata.num_row_groups and file.metadata.num_columns
        codec = file.metadata.row_group(0).column(0).compression if columns else "SNAPPY"
        compression = "NONE" if codec == "UNCOMPRESSED" else codec
        with pq.ParquetWriter(target, file.schema_arrow, compression=compression) as writer:
            for group in range(file.metadata.num_row_groups):
                table = file.read_row_group(group)
                keep = ~removed[start : start + len(table)]
                writer.write_table(table.filter(pa.array(keep)))
                start += len(table)


def _iterate_records(path: Path, *, quotes: bool, escape: str | None) -> Iterator[bytes]:
    """Yield lines that are not blank; a record continues while a quotation is open."""
    escaped = re.compile(re.escape((escape or "").encode()) + b".", re.DOTALL)
    with path.open("rb") as file:
        record = b""
        for line in file:
            record += line
            if quotes and (escaped.sub(b"", record) if escape else record).count(b'"') % 2:
                continue
            if record.strip():
                yield record
            record = b""
        if record.strip():
            yield record
