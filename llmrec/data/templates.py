"""Item texts from item fields by a template such as "{title}. Genres: {genres}".

A missing field leaves no trace: every field owns the words joined to it, and is left out together with them. The
literal between two fields is cut into words of the left field, a separator, and words of the right field:

1. closing brackets and quotes at its start belong to the left field, opening ones at its end to the right;
2. if no word is left in between, all of it is the separator: `{title} ({year})`, `{brand}: {title}`;
3. else it is cut at the first sentence mark: one of . ! ? ; , | before a space, a dash or slash between spaces,
   or a line break. Words before the mark go left, words after it right: `{price} dollars. Genres: {genres}`;
4. else its leading space is the separator, and the words belong to the right field: `{title} by {author}`.

Text before the first field belongs to that field, text after the last field to that one. The fields that are present
are joined by the separator in front of each, except the first.

    >>> render(parse_template("{title} ({year}). Genres: {genres}"), pa.table({"title": ["Heat"], "year": [1995],
    ...     "genres": [None]})).to_pylist()
    ['Heat (1995)']
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from string import Formatter
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from llmrec.errors import ConfigError

_CLOSERS = re.compile(r"[)\]}\"»”]*")
_OPENERS = re.compile(r"[(\[{\"«“]*$")
_SENTENCE_MARK = re.compile(r"\s*[.!?;,|](?=\s)\s*|\s+[-–—/]\s+|\s*\n\s*")


class TemplateField(NamedTuple):
    """Field of a template with the words joined to it."""

    separator: str
    """Text between this field and the one before."""
    prefix: str
    """Words before the value."""
    field: str
    """Name of the item column."""
    suffix: str
    """Words after the value."""


def parse_template(template: str) -> tuple[TemplateField, ...]:
    """Parse a template into its fields.

    Args:
        template: Template with column names in braces.

    Returns:
        The fields with their words, in order.

    Raises:
        ConfigError: If braces are unbalanced, there is no field, or a field has no name or has a format.
    """
    fields, literals = _scan(template)
    if not fields:
        raise ConfigError(f"text_template={template!r} names no item field. Write one as in '{{title}}'.")
    parts = []
    separator, prefix = "", literals[0]
    for field, literal in zip(fields[:-1], literals[1:-1], strict=True):
        suffix, next_separator, next_prefix = _split_literal(literal)
        parts.append(TemplateField(separator, prefix, field, suffix))
        separator, prefix = next_separator, next_prefix
    return (*parts, TemplateField(separator, prefix, fields[-1], literals[-1]))


def _scan(template: str) -> tuple[list[str], list[str]]:
    """Return the n field names of a template and the n + 1 literals around them."""
    fields: list[str] = []
    literals = [""]
    try:
        pieces = list(Formatter().parse(template))
    except ValueError as error:
        raise ConfigError(f"text_template={template!r}: {error}. Write a literal brace twice.") from error
    for literal, field, spec, conversion in pieces:
        literals[-1] += literal
        if field is None:
            continue
        if not field or spec or conversion:
            raise ConfigError(
                f"text_template={template!r}: not a plain field. Write a column name in braces and nothing else."
            )
        fields.append(field)
        literals.append("")
    return fields, literals


def _split_literal(literal: str) -> tuple[str, str, str]:
    """Cut the literal between two fields into the left one's words, a separator and the right one's words."""
    closers = _CLOSERS.match(literal)
    closed = closers.end() if closers else 0
    openers = _OPENERS.search(literal, closed)
    opened = openers.start() if openers else len(literal)
    left, middle, right = literal[:closed], literal[closed:opened], literal[opened:]
    if not re.search(r"\w", middle):
        return left, middle, right
    mark = _SENTENCE_MARK.search(middle)
    if mark:
        return left + middle[: mark.start()], mark.group(), middle[mark.end() :] + right
    words = middle.lstrip()
    return left, middle[: len(middle) - len(words)], words + right


def render(parts: Sequence[TemplateField], table: pa.Table) -> pa.LargeStringArray:
    """Render the text of each row; a column that the table lacks is missing in all rows.

    Args:
        parts: Parsed template.
        table: Table of items, N rows.

    Returns:
        Texts, (N,); "" where all fields are missing.

    Raises:
        ConfigError: If a column has a type without text, such as a struct.
    """
    blank = pa.scalar("", pa.large_string())
    text = pa.array([""] * table.num_rows, pa.large_string())
    for part in parts:
        value = format_field(part.field, table)
        words = [pa.scalar(literal, pa.large_string()) for literal in (part.separator, part.prefix, part.suffix)]
        piece = pc.binary_join_element_wise(words[1], value, words[2], blank)
        joined = pc.binary_join_element_wise(text, words[0], piece, blank)
        extended = pc.if_else(pc.equal(text, blank), piece, joined)
        text = pc.if_else(pc.is_null(value), text, extended)
    return text


def format_field(field: str, table: pa.Table) -> pa.LargeStringArray:
    """Convert the values of a field to text.

    Args:
        field: Name of the column.
        table: Table of items, N rows.

    Returns:
        Texts, (N,); null where the value is null, NaN, empty or blank.
    """
    if field not in table.column_names:
        return pa.nulls(table.num_rows, pa.large_string())
    column = table[field]
    try:
        text = _convert_to_strings(pa.concat_arrays(column.chunks or [pa.array([], column.type)]))
    except pa.ArrowException as error:
        raise ConfigError(f"item column '{field}': type {column.type} has no text. Name another column.") from error
    text = pc.utf8_trim_whitespace(text)
    return pc.if_else(pc.equal(text, pa.scalar("", pa.large_string())), None, text)


def _convert_to_strings(values: pa.Array) -> pa.LargeStringArray:
    if pa.types.is_floating(values.type):
        numbers = np.asarray(values.cast(pa.float64()))
        whole = np.abs(numbers) < 2**53
        whole &= np.floor(numbers) == numbers
        integers = pa.array(np.where(whole, numbers, 0).astype(np.int64)).cast(pa.large_string())  # 1995.0 is "1995"
        others = pa.array(numbers, from_pandas=True).cast(pa.large_string())
        return pc.if_else(pa.array(whole), integers, others)
    if pa.types.is_list(values.type) or pa.types.is_large_list(values.type):
        texts = _drop_nulls(values.cast(pa.large_list(pa.large_string())))
        return pc.binary_join(texts, pa.scalar(", ", pa.large_string()))
    return values.cast(pa.large_string())


def _drop_nulls(lists: pa.LargeListArray) -> pa.LargeListArray:
    """Remove nulls from lists, one of which would make the whole text null."""
    inner = lists.flatten()
    if not inner.null_count:
        return lists
    ends = np.cumsum(np.asarray(pc.fill_null(pc.list_value_length(lists), 0)))
    kept = np.concatenate([[0], np.cumsum(np.asarray(inner.is_valid()))])
    return pa.LargeListArray.from_arrays(kept[np.concatenate([[0], ends])], inner.drop_null(), mask=lists.is_null())
