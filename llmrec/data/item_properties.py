"""Catalogs with a row for each property of an item, as a table with a row for each item."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from llmrec.config.data import DataConfig
from llmrec.data.ids import encode_ids
from llmrec.data.problems import NamedTable
from llmrec.data.texts.templates import list_fields


def list_item_columns(config: DataConfig) -> list[str]:
    """List the columns that the items must have.

    Args:
        config: Names of the columns and the template.

    Returns:
        Names of columns in the file, without repetition.
    """
    fields = [*list_fields(config.text_template), *filter(None, [config.release_column, config.label_column])]
    read = config.property_columns or [*fields, *config.display_columns]
    return list(dict.fromkeys([config.catalog_item_column, *read]))


def join_properties(items: NamedTable, config: DataConfig) -> NamedTable:
    """Turn a row for each property into a row for each item; of repeated properties the first counts.

    Args:
        items: Table of properties.
        config: Names of the columns that hold the name and the value of a property.

    Returns:
        Table of ids with a column for each property that the settings name; the same table without such columns.
    """
    names = items.table.column_names
    if config.property_columns is None or not {config.catalog_item_column, *config.property_columns} <= set(names):
        return items
    name, value = (items.table[column] for column in config.property_columns)
    encoded = encode_ids(items.table[config.catalog_item_column], missing_words=config.missing_words)
    properties = name.cast(pa.large_string())
    wanted = list_item_columns(replace(config, property_columns=None))[1:]
    columns = {config.catalog_item_column: encoded.ids}
    for field in wanted:
        rows = np.flatnonzero(
            np.asarray(pc.fill_null(pc.equal(properties, field), fill_value=False)) & (encoded.codes >= 0)
        )
        items_with, first = np.unique(encoded.codes[rows], return_index=True)
        places = np.full(len(encoded.ids), -1, dtype=np.int64)
        places[items_with] = rows[first]
        columns[field] = value.take(pa.array(places, mask=places < 0)).combine_chunks()
    return items._replace(table=pa.table(columns))
