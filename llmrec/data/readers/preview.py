"""Columns of a log before it is read: names and types, from the beginning of its files."""

from __future__ import annotations

import pyarrow as pa

from llmrec.config.data import DataConfig
from llmrec.data.readers.files import list_table_files, read_tables
from llmrec.data.readers.memory import LogTables, read_memory
from llmrec.data.readers.sample import read_sample
from llmrec.errors import ConfigError, LlmrecError


def read_schemas(config: DataConfig, tables: LogTables | None = None) -> tuple[pa.Schema, pa.Schema] | None:
    """Read the columns of events and items, without their rows where that is possible.

    Args:
        config: Sources of the log.
        tables: Events and items in memory, instead of the sources.

    Returns:
        Columns of the events and of the items; None if they cannot be read, which loading the log reports.
    """
    problems: list[str] = []
    try:
        if tables is not None:
            events, items = read_memory(tables, problems)
        else:
            try:
                first, second = (list_table_files(config, role)[0].path for role in ("interactions", "items"))
                return read_sample(first).schema, read_sample(second).schema
            except ConfigError:  # in no file: on the Hub, or in a package
                events, items = read_tables(config, problems)
    except (LlmrecError, pa.ArrowException, OSError, ValueError):
        return None
    return None if events is None or items is None else (events.table.schema, items.table.schema)
