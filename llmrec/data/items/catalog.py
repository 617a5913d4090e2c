"""Catalog of items: their ids, their fields and the text that a language model reads."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from llmrec.config.data import MISSING_WORDS, CleanKind, DataConfig
from llmrec.data.ids import Id, format_id
from llmrec.data.items.item_columns import ItemProblems, find_empty_texts, normalize_item_table
from llmrec.data.items.item_values import build_item_column
from llmrec.data.problems import ColumnProblem, NamedTable, find_missing_columns, format_problems
from llmrec.data.texts.cleaning import clean_fields
from llmrec.data.texts.field_texts import format_field, is_text
from llmrec.data.texts.templates import Template, parse_template, render
from llmrec.errors import ConfigError, DataError
from llmrec.utils.arrays import Rows
from llmrec.utils.text import truncate

NO_RELEASE_DATE = int(np.iinfo(np.int64).min)  # release time of an item without a date
LABEL_LENGTH, TITLE_LENGTH = 80, 300  # characters of texts and of titles; Amazon has titles of about 2,000
LABEL_COLUMNS = ("title", "name")
CONTROL_CHARACTERS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")
EXAMPLES = 5


@dataclass(frozen=True, eq=False)
class ItemCatalog:
    """N items with fields and texts; build it with `read_catalog` and extend it with `extend`."""

    fields: pa.Table
    """Item columns, N rows; ids are large_string, distinct and not null, release times timestamp[s, UTC]."""
    template: str = "{title}"
    """Template that turns fields into text; `llmrec.data.texts.templates` defines the rule for missing fields."""
    id_column: str = "item_id"
    """Name of the column of ids."""
    release_column: str | None = None
    """Name of the column of release times; None if there is none."""
    label_column: str | None = None
    """Name of the column of labels; None for `title`, `name` or the first field of the template."""
    display_columns: tuple[str, ...] = ()
    """Names of the columns that are shown with recommendations."""
    missing_words: tuple[str, ...] = MISSING_WORDS
    """Words that mean nothing where they are the whole value of a field."""
    clean: tuple[CleanKind, ...] = ()
    """Kinds of cleaning of the fields."""

    def __len__(self) -> int:
        return int(self.fields.num_rows)

    @cached_property
    def ids(self) -> pa.LargeStringArray:
        """Item ids, (N,)."""
        return pa.concat_arrays(self.fields[self.id_column].chunks or [pa.array([], pa.large_string())])

    @cached_property
    def text_array(self) -> pa.LargeStringArray:
        """Item texts, (N,), without a Python object for each."""
        return render(self._template, self.fields)

    @cached_property
    def names(self) -> pa.LargeStringArray:
        """Values of the label column, (N,), or the text of an item without one."""
        return pc.coalesce(format_field(self._name_column, self.fields), self.text_array)

    def list_texts(self) -> list[str]:
        """Return the N item texts as Python strings."""
        return list(self.text_array.to_pylist())

    @cached_property
    def release_time(self) -> Rows | None:
        """Release times in seconds, (N,), `NO_RELEASE_DATE` for items without a date; None without a release column."""
        if self.release_column is None:
            return None
        return np.asarray(self.fields[self.release_column].cast(pa.int64()).fill_null(NO_RELEASE_DATE)).astype(np.int64)

    def find_rows(self, ids: Sequence[Id]) -> Rows:
        """Return the catalog row of each id.

        Args:
            ids: Item ids, C of them, as text or as the numbers that the log has.

        Returns:
            Catalog rows, (C,).

        Raises:
            DataError: If an id is not in the catalog.
        """
        names = [format_id(item) for item in ids]
        unknown = [name for name in names if name not in self._id_to_row]
        if unknown:
            shown = ", ".join(repr(item) for item in unknown[:EXAMPLES]) + (", ..." if len(unknown) > EXAMPLES else "")
            raise DataError("catalog", [f"{len(unknown)} unknown item id(s): {shown}. Add the items first."])
        return np.array([self._id_to_row[name] for name in names], dtype=np.int64)

    def label(self, row: int) -> str:
        """Return the short name of an item: its value in the label column, else the start of its text.

        Args:
            row: Catalog row.

        Returns:
            One line, without the characters that control a terminal or reverse the writing direction; it ends in an
            ellipsis where it is cut.
        """
        name = self._format_value(self._name_column, row)
        return _clean_label(name, TITLE_LENGTH) or _clean_label(str(self.text_array[row]), LABEL_LENGTH)

    def label_new(self, item: Mapping[str, object], text: str) -> str:
        """Return the short name of an item that need not be in the catalog.

        Args:
            item: Fields by name.
            text: Text of the item.

        Returns:
            One line as `label` returns it.
        """
        name = str(item.get(self._name_column) or "")
        return _clean_label(name, TITLE_LENGTH) or _clean_label(text, LABEL_LENGTH)

    def get_display_values(self, row: int) -> dict[str, str]:
        """Return what is shown of an item next to its label.

        Args:
            row: Catalog row.

        Returns:
            Text of each display column, without those that the item leaves empty.
        """
        values = {name: _clean_label(self._format_value(name, row), TITLE_LENGTH) for name in self.display_columns}
        return {name: value for name, value in values.items() if value}

    def render_text(self, item: Mapping[str, object]) -> str:
        """Return the text that an item with these fields would have; it need not be in the catalog.

        Args:
            item: Fields by name.

        Returns:
            The text.

        Raises:
            DataError: If a field is not a column of the catalog, or the text is empty.
        """
        text = str(render(self._template, self._build_table([item]))[0])
        if not text:
            names = ", ".join(self._template.fields)
            raise DataError("item", [f"empty text. Give at least one of {names}."])
        return text

    def extend(self, items: Sequence[Mapping[str, object]]) -> ItemCatalog:
        """Return a new catalog with more items; the rows of existing items do not change.

        Args:
            items: Fields of each new item; release times may be datetimes, ISO 8601 text or epoch numbers.

        Returns:
            A catalog of N + len(items) items.

        Raises:
            DataError: If ids are missing, repeated or in the catalog, fields are unknown, values have the wrong type,
                or
                texts are empty.
        """
        if not items:
            return self
        problems: list[str] = []
        given = NamedTable("new items", self._build_table(items))
        new = read_catalog(given, problems, self._config)
        if new is not None:
            known = np.asarray(pc.is_in(new.ids, value_set=self.ids))
            fault = ColumnProblem("id that the catalog has already", known, "Leave the item out or change its id")
            problems += format_problems("new items", self.id_column, new.ids, [fault])
        if new is None or problems:
            raise DataError("new items", problems)
        return replace(self, fields=pa.concat_tables([self.fields, new.fields]))

    @cached_property
    def _template(self) -> Template:
        return parse_template(self.template)

    @property
    def _config(self) -> DataConfig:
        """Settings that read new items as the catalog was read; times of them are ISO 8601 or epoch numbers."""
        return DataConfig(
            text_template=self.template,
            catalog_item_column=self.id_column,
            release_column=self.release_column,
            label_column=self.label_column,
            display_columns=self.display_columns,
            missing_words=self.missing_words,
            clean=self.clean,
        )

    @cached_property
    def _name_column(self) -> str:
        """Name of the column of labels."""
        schema = self.fields.schema
        names = (name for name in LABEL_COLUMNS if name in schema.names and is_text(schema.field(name).type))
        return self.label_column or next(names, self._template.fields[0])

    @cached_property
    def _id_to_row(self) -> dict[str, int]:
        # Built when single ids are first looked up; the events of a log are matched without it.
        return {item: row for row, item in enumerate(self.ids.to_pylist())}

    def _format_value(self, name: str, row: int) -> str:
        return str(format_field(name, self.fields.slice(row, 1))[0].as_py() or "")

    def _build_table(self, items: Sequence[Mapping[str, object]]) -> pa.Table:
        """Build a table with the catalog's columns and types; ids and release times stay as given."""
        schema = self.fields.schema
        names = dict.fromkeys(name for item in items for name in item)
        problems = find_missing_columns("the catalog", list(names), schema.names)
        columns = {}
        for name in schema.names:
            kind = None if name in (self.id_column, self.release_column) else schema.field(name).type
            try:
                columns[name] = build_item_column([item.get(name) for item in items], kind)
            except pa.ArrowInvalid as error:
                problems.append(f"items, column '{name}': {error}. Give values of type {schema.field(name).type}.")
        if problems:
            raise DataError("items", problems)
        keep = [self.id_column, *filter(None, [self.release_column])]
        return clean_fields(pa.table(columns), missing_words=self.missing_words, clean=self.clean, keep=keep)


def read_catalog(items: NamedTable, problems: list[str], config: DataConfig) -> ItemCatalog | None:
    """Build a catalog from a table of items.

    Args:
        items: Table of items and its name in messages.
        problems: List to which everything that is wrong with the table is appended, one line each.
        config: Columns, template, forms of times, cleaning, and whether faulty rows are dropped.

    Returns:
        The catalog, or None if there are problems.

    Raises:
        ConfigError: If the template cannot be parsed or names a field that the table lacks, or a column to show has a
            type without text.
    """
    file, table = items.name, items.table
    template = parse_template(config.text_template)
    unknown = [name for name in template.fields if name not in table.column_names]
    if unknown:
        raise ConfigError(
            f"text_template={config.text_template!r}: {file} has no column {', '.join(unknown)}. "
            f"Use some of its columns {', '.join(table.column_names)}."
        )
    wanted = [config.catalog_item_column, *filter(None, [config.release_column, config.label_column])]
    found = find_missing_columns(file, [*wanted, *config.display_columns], table.column_names)
    if not found and not table.num_rows:
        found = [f"{file}: no items. Add at least one."]
    if not found:
        for name in filter(None, (config.label_column, *config.display_columns)):
            format_field(name, table.slice(0, 0))  # refuses a type without text before anything is computed
        table, columns = normalize_item_table(table, config)
        ids = table[config.catalog_item_column]
        columns.append(ItemProblems(config.catalog_item_column, ids, [find_empty_texts(template, table)]))
        if config.faulty_rows == "drop":
            table = _drop_faulty(table, columns)
            found = [] if table.num_rows else [f"{file}: no item is left after faulty_rows=drop. Correct the rows."]
        else:
            found = [line for one in columns for line in format_problems(file, one.column, one.values, one.faults)]
    problems += found
    return None if found else ItemCatalog(table, **_list_catalog_settings(config))


def _list_catalog_settings(config: DataConfig) -> dict[str, Any]:
    """Return the settings of a catalog, by the names of its fields."""
    same = ("release_column", "label_column", "display_columns", "missing_words", "clean")
    renamed = {"template": config.text_template, "id_column": config.catalog_item_column}
    return renamed | {name: getattr(config, name) for name in same}


def _drop_faulty(table: pa.Table, columns: Sequence[ItemProblems]) -> pa.Table:
    """Drop the items that have a problem; of items with one id, the first stays."""
    faulty = np.zeros(table.num_rows, dtype=np.bool_)
    for fault in (fault for column in columns for fault in column.faults):
        faulty |= fault.rows
    return table.filter(pa.array(~faulty)) if faulty.any() else table


def _clean_label(text: str, length: int) -> str:
    """Return text as one line of at most some characters."""
    return truncate(CONTROL_CHARACTERS.sub(" ", text[: 4 * length]).strip(), length)
