"""Item texts from item fields by a template such as "{title}. Genres: {genres}".

A missing field leaves no trace: every field owns the words joined to it, and is left out together with them. The
literal between two fields is cut into words of the left field, a separator, and words of the right field:

1. closing brackets and quotes at its start belong to the left field, opening ones at its end to the right;
2. if no word is left in between, all of it is the separator: `{title} ({year})`, `{brand}: {title}`;
3. else it is cut at the first sentence mark: one of . ! ? ; , | before a space, a dash or slash between spaces,
   or a line break. Words before the mark go left, words after it right: `{price} dollars. Genres: {genres}`;
4. else its leading space is the separator, and the words belong to the right field: `{title} by {author}`.

Text before the first field belongs to that field, text after the last field to that one. The fields that are present
are joined by the separator in front of each, except the first. Brackets that enclose several fields belong to all of
them: `{title} ({year}, {country})`. A mark that ends the template ends every text.

    >>> render(parse_template("{title} ({year}). Genres: {genres}"), pa.table({"title": ["Heat"], "year": [1995],
    ...     "genres": [None]})).to_pylist()
    ['Heat (1995)']
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from string import Formatter
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from llmrec.data.texts.field_texts import format_field
from llmrec.errors import ConfigError

_CLOSERS = re.compile(r"[)\]}\"»”]*")
_OPENERS = re.compile(r"[(\[{\"«“]*$")
_BRACKETS = {"(": ")", "[": "]", "{": "}", "«": "»", "“": "”"}
_ENDINGS = ".!?;…"
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


class TemplateGroup(NamedTuple):
    """Fields that brackets enclose together."""

    separator: str
    """Text between the group and the field before."""
    prefix: str
    """Words before the fields, with the opening bracket."""
    parts: tuple[TemplateField, ...]
    """The fields."""
    suffix: str
    """Words after the fields, with the closing bracket."""


class Template(NamedTuple):
    """Parsed template."""

    parts: tuple[TemplateField | TemplateGroup, ...]
    """Fields and groups of fields, in order."""
    ending: str
    """Mark at the end of every text, such as a full stop."""

    @property
    def fields(self) -> list[str]:
        """Names of the item columns, in order."""
        groups = [part.parts if isinstance(part, TemplateGroup) else (part,) for part in self.parts]
        return [part.field for group in groups for part in group]


def parse_template(template: str) -> Template:
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
    words = literals[-1].rstrip(_ENDINGS)
    parts.append(TemplateField(separator, prefix, fields[-1], words))
    return Template(tuple(_group_brackets(parts)), literals[-1][len(words) :])


def list_fields(template: str) -> list[str]:
    """List the item columns that a template names.

    Args:
        template: Template with column names in braces.

    Returns:
        Names in order.

    Raises:
        ConfigError: If the template cannot be parsed.
    """
    return parse_template(template).fields


def _group_brackets(parts: list[TemplateField]) -> list[TemplateField | TemplateGroup]:
    """Group the fields between brackets that open before one field and close after a later one."""
    for first, part in enumerate(parts):
        for place, opener in enumerate(part.prefix):
            closer = _BRACKETS.get(opener)
            if closer is None or closer in part.prefix[place:] + part.suffix:
                continue
            last = next((at for at in range(first + 1, len(parts)) if closer in parts[at].suffix), None)
            if last is None:
                continue
            end = parts[last].suffix.index(closer)
            inner = parts[first : last + 1]
            inner[-1] = inner[-1]._replace(suffix=inner[-1].suffix[:end])
            inner[0] = inner[0]._replace(separator="", prefix=part.prefix[place + 1 :])
            words = (part.separator, part.prefix[: place + 1])
            group = TemplateGroup(*words, tuple(inner), parts[last].suffix[end:])
            return [*parts[:first], group, *_group_brackets(parts[last + 1 :])]
    return list(parts)


def _scan(template: str) -> tuple[list[str], list[str]]:
    """Return the n field names of a template and the n + 1 literals around them."""
    fields: list[str] = []
    literals = [""]
    try:
        parts = list(Formatter().parse(template))
    except ValueError as error:
        raise ConfigError(f"text_template={template!r}: {error}. Write a literal brace twice.") from error
    for literal, field, spec, conversion in parts:
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


def render(template: Template, table: pa.Table) -> pa.LargeStringArray:
    """Render the text of each row; a column that the table lacks is missing in all rows.

    Args:
        template: Parsed template.
        table: Table of items, N rows.

    Returns:
        Texts, (N,); "" where all fields are missing.

    Raises:
        ConfigError: If a column has a type without text, such as a struct.
    """
    text = _join(template.parts, table)
    if not template.ending:
        return text
    return pc.if_else(pc.equal(text, _scalar("")), text, _glue(text, _scalar(template.ending)))


def _join(parts: Sequence[TemplateField | TemplateGroup], table: pa.Table) -> pa.LargeStringArray:
    """Join the fields that are present, (N,)."""
    blank = _scalar("")
    text = pa.array([""] * table.num_rows, pa.large_string())
    for part in parts:
        if isinstance(part, TemplateGroup):
            value = _join(part.parts, table)
            value = pc.if_else(pc.equal(value, blank), None, value)
        else:
            value = format_field(part.field, table)
        piece = _glue(_scalar(part.prefix), value, _scalar(part.suffix))
        extended = pc.if_else(pc.equal(text, blank), piece, _glue(text, _scalar(part.separator), piece))
        text = pc.if_else(pc.is_null(value), text, extended)
    return text


def _glue(*parts: pa.LargeStringArray | pa.Scalar) -> pa.LargeStringArray:
    return pc.binary_join_element_wise(*parts, _scalar(""))


def _scalar(text: str) -> pa.Scalar:
    return pa.scalar(text, pa.large_string())
