"""Cleaning of item fields: words that mean nothing, HTML, and lists that are written as text."""

from __future__ import annotations

import ast
import html
import re
from collections.abc import Callable, Collection

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from llmrec.config.data import CleanKind

TAG = r"(?is)<(script|style)\b.*?</(script|style)\s*>|<!--.*?-->|</?[a-z][^<>]*>"
WRITTEN_LIST = r"^\s*\[.*\]\s*$"
BARS = r"\S\|\S"
UNESCAPES = 3  # text that was escaped more often is taken as it is


def clean_fields(
    table: pa.Table, *, missing_words: Collection[str], clean: Collection[CleanKind], keep: Collection[str]
) -> pa.Table:
    """Clean the text columns of a table, and the lists of text in it.

    Args:
        table: Table of items, N rows.
        missing_words: Words that become null where they are the whole value.
        clean: Kinds of cleaning.
        keep: Columns that stay as they are.

    Returns:
        The table with the same columns; those of nulls alone become text.
    """
    for place, field in enumerate(table.schema):
        if field.name in keep:
            continue
        column = table.column(place)
        cleaned = clean_column(column, missing_words=missing_words, clean=clean)
        if cleaned is not column:
            table = table.set_column(place, field.name, cleaned)
    return table


def clean_column(
    column: pa.ChunkedArray, *, missing_words: Collection[str], clean: Collection[CleanKind]
) -> pa.ChunkedArray:
    """Clean a column of text or of lists of text.

    Args:
        column: The column, (N,).
        missing_words: Words that become null.
        clean: Kinds of cleaning.

    Returns:
        The column, (N,); the same object if nothing is to be cleaned.
    """
    kind = column.type
    if pa.types.is_dictionary(kind):
        kind, column = kind.value_type, column.cast(kind.value_type)
    if pa.types.is_null(kind):
        return column.cast(pa.large_string())
    if pa.types.is_large_list(kind) or pa.types.is_list(kind):
        return _clean_lists(column, missing_words=missing_words, clean=clean)
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        return column
    if "html" in clean:
        column = _apply(column, r"[<&]", strip_html)
    if "lists" in clean:
        column = _apply(column, WRITTEN_LIST, join_written_list)
        barred = pc.replace_substring_regex(column, r"\|", ", ")
        column = pc.if_else(pc.match_substring_regex(column, BARS), barred, column)
    words = pa.array(sorted({word.strip() for word in missing_words}), pa.large_string())
    found = pc.is_in(pc.utf8_trim_whitespace(column.cast(pa.large_string())), value_set=words)
    return pc.if_else(found, None, column) if pc.any(found).as_py() else column


def _clean_lists(
    column: pa.ChunkedArray, *, missing_words: Collection[str], clean: Collection[CleanKind]
) -> pa.ChunkedArray:
    lists = pa.concat_arrays(column.chunks or [pa.nulls(0, column.type)])
    inner = pa.chunked_array([lists.flatten()])
    of_entries: list[CleanKind] = ["html"] if "html" in clean else []
    cleaned = clean_column(inner, missing_words=missing_words, clean=of_entries)
    if cleaned is inner:
        return column
    lengths = np.asarray(pc.fill_null(pc.list_value_length(lists), 0)).astype(np.int64)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    flat = pa.concat_arrays(cleaned.chunks or [pa.nulls(0, cleaned.type)])
    return pa.chunked_array([pa.LargeListArray.from_arrays(offsets, flat, mask=lists.is_null())])


def _apply(column: pa.ChunkedArray, pattern: str, change: Callable[[str], str]) -> pa.ChunkedArray:
    """Apply a function to the texts that match a pattern."""
    found = np.asarray(pc.fill_null(pc.match_substring_regex(column, pattern), fill_value=False))
    if not found.any():
        return column
    mask = pa.chunked_array([pa.array(found)])
    changed = [change(text) for text in column.filter(mask).to_pylist()]
    flat = pa.concat_arrays(column.chunks)
    return pa.chunked_array([pc.replace_with_mask(flat, pa.array(found), pa.array(changed, column.type))])


def strip_html(text: str) -> str:
    """Take tags and comments out of a text, and replace entities by their signs.

    Args:
        text: A text.

    Returns:
        The text; what a tag separated stays separated by a space.

    Example:
        >>> strip_html("Tom &amp; Jerry<br/>5 &lt; 6, I <3 it")
        'Tom & Jerry 5 < 6, I <3 it'
    """
    for _ in range(UNESCAPES):
        plain = html.unescape(text)
        if plain == text:
            break
        text = plain
    stripped = re.sub(TAG, " ", text)
    return text if stripped == text else re.sub(r"\s+", " ", stripped).strip()


def join_written_list(text: str) -> str:
    """Join the entries of a list that is written as text by commas.

    Args:
        text: A text such as "['a', 'b']".

    Returns:
        Its entries, or the text if it is no list.

    Example:
        >>> join_written_list("['30 minutes', 'easy']")
        '30 minutes, easy'
    """
    try:
        entries = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return text
    flat = isinstance(entries, list) and not any(isinstance(entry, (list, dict, tuple, set)) for entry in entries)
    return ", ".join(str(entry) for entry in entries if entry is not None) if flat else text
