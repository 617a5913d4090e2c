"""Events on several items, such as baskets and pages of results, as one event on each item."""

from __future__ import annotations

import re

import pyarrow as pa

from llmrec.config.data import DataConfig
from llmrec.data.problems import NamedTable
from llmrec.data.texts.field_texts import format_values
from llmrec.errors import ConfigError


def split_item_lists(events: NamedTable, config: DataConfig) -> NamedTable:
    """Turn each match of `item_pattern` in the item column into an event of its own.

    Args:
        events: Table of events.
        config: Pattern and name of the item column.

    Returns:
        The table, with the other columns repeated; the same table without a pattern.

    Raises:
        ConfigError: If the pattern is no regular expression.
    """
    if config.item_pattern is None or config.item_column not in events.table.column_names:
        return events
    try:
        pattern = re.compile(config.item_pattern)
    except re.error as error:
        raise ConfigError(f"item_pattern={config.item_pattern!r}: {error}. Write a regular expression.") from error
    column = events.table[config.item_column]
    texts = format_values(pa.concat_arrays(column.chunks or [pa.nulls(0, column.type)])).to_pylist()
    rows, items = [], []
    for row, text in enumerate(texts):
        for match in pattern.finditer(text or ""):
            rows.append(row)
            items.append(match.group(1) if pattern.groups else match.group())
    place = events.table.column_names.index(config.item_column)
    table = events.table.take(pa.array(rows, pa.int64()))
    return events._replace(table=table.set_column(place, config.item_column, pa.array(items, pa.large_string())))
