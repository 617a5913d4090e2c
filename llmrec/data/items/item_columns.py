"""Item tables with ids as strings and release times as timestamps, and the problems found in them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from llmrec.config.data import DataConfig
from llmrec.data.ids import encode_ids
from llmrec.data.problems import ColumnProblem
from llmrec.data.texts.cleaning import clean_fields
from llmrec.data.texts.templates import Template, render
from llmrec.data.times.timestamps import EARLY, parse_times
from llmrec.utils.arrays import Mask


class ItemProblems(NamedTuple):
    """Problems of a column of items."""

    column: str
    """Name of the column."""
    values: pa.ChunkedArray
    """Values as they were given, (N,)."""
    faults: list[ColumnProblem]
    """The problems."""


def normalize_item_table(table: pa.Table, config: DataConfig) -> tuple[pa.Table, list[ItemProblems]]:
    """Convert ids to strings and release times to timestamps, clean the texts, and report what is wrong.

    Args:
        table: Table of items, N rows.
        config: Columns, forms of times, words for nothing and kinds of cleaning.

    Returns:
        The converted table and the problems of its columns.
    """
    name = config.catalog_item_column
    encoded = encode_ids(table[name], missing_words=config.missing_words)
    doubled = np.ones(len(encoded.codes), dtype=np.bool_)
    doubled[np.unique(encoded.codes, return_index=True)[1]] = False
    faults = [
        *encoded.faults,
        ColumnProblem("duplicate item id", doubled & (encoded.codes >= 0), "Keep one row for each item"),
    ]
    problems = [ItemProblems(name, table[name], faults)]
    ids = encoded.ids.take(pa.array(encoded.codes, mask=encoded.codes < 0))
    table = table.set_column(table.column_names.index(name), name, ids)
    keep = [name]
    if config.release_column is not None:
        stamps, found = _parse_release_times(table[config.release_column], config)
        problems.append(ItemProblems(config.release_column, table[config.release_column], found))
        table = table.set_column(table.column_names.index(config.release_column), config.release_column, stamps)
        keep.append(config.release_column)
    return clean_fields(table, missing_words=config.missing_words, clean=config.clean, keep=keep), problems


def _parse_release_times(released: pa.ChunkedArray, config: DataConfig) -> tuple[pa.Array, list[ColumnProblem]]:
    """Parse release times to timestamp[s, UTC] (N,), null where an item has none."""
    absent = np.asarray(pc.is_null(released, nan_is_null=True))
    if pa.types.is_string(released.type) or pa.types.is_large_string(released.type):
        words = pa.array(sorted({"", *config.missing_words}), pa.large_string())
        absent = absent | np.asarray(
            pc.is_in(pc.utf8_trim_whitespace(released.cast(pa.large_string())), value_set=words)
        )
    times = parse_times(
        released.filter(pa.array(~absent)), config.time_unit, timezone=config.timezone, form=config.release_format
    )
    # Items may be older than 1970.
    faults = [fault._replace(rows=_expand_mask(fault.rows, ~absent)) for fault in times.faults if fault.what != EARLY]
    seconds = np.zeros(len(absent), dtype=np.int64)
    seconds[~absent] = times.seconds
    return pa.array(seconds, mask=absent).cast(pa.timestamp("s", "UTC")), faults


def _expand_mask(rows: Mask, onto: Mask) -> Mask:
    """Expand a mask over the True entries of `onto` to a mask over all entries."""
    spread = np.zeros(len(onto), dtype=np.bool_)
    spread[onto] = rows
    return spread


def find_empty_texts(template: Template, table: pa.Table) -> ColumnProblem:
    """Find the items that the template leaves without text.

    Args:
        template: Parsed template.
        table: Table of items, N rows.

    Returns:
        The problem, with its rows as a mask, (N,).
    """
    names = ", ".join(template.fields)
    empty = np.asarray(pc.equal(render(template, table), pa.scalar("", pa.large_string())))
    return ColumnProblem("item with an empty text", empty, f"Fill one of {names}, or name more fields in text_template")
