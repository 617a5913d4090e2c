"""Settings of a log: its place, columns and filters, and the protection of the people in it."""

from __future__ import annotations

import codecs
from dataclasses import dataclass
from typing import Annotated, Literal, get_args

from llmrec.config.validation import COUNT_FROM_0
from llmrec.errors import ConfigError

PiiKind = Literal["email", "phone", "credit_card", "iban", "ip"]
FileKind = Literal["auto", "parquet", "csv", "jsonl", "arrow", "orc"]
CleanKind = Literal["html", "lists"]
MISSING_WORDS = (
    *("NA", "N/A", "n/a", "<NA>", "#N/A", "#NA", "nan", "NaN", "NAN", "-nan", "NaT"),
    *("null", "Null", "NULL", "None", "none", "NONE", "\\N"),
)


@dataclass(frozen=True)
class PseudonymConfig:
    """Place of the key of pseudonyms; the key itself is in no configuration and is written nowhere."""

    key_env: str | None = None
    """Environment variable that holds the key, of at least 32 random characters."""
    key_file: str | None = None
    """File that holds the key, in place of key_env."""
    salt: str = ""
    """Text that changes all pseudonyms, so that two logs cannot be joined by them; not secret."""

    def __post_init__(self) -> None:
        if (not self.key_env) == (not self.key_file):
            raise ConfigError("data.pseudonyms: give key_env, the variable that holds the key, or key_file, the file")


@dataclass(frozen=True)
class PiiConfig:
    """Removal of personal details from texts (extra: scrub), by form and check digits.

    Names and addresses stay.
    """

    kinds: tuple[PiiKind, ...] = get_args(PiiKind)
    """Kinds of details to remove."""
    phone_regions: tuple[str, ...] = ("US", "GB")
    """Countries (ISO 3166) whose phone numbers are found without a leading +."""

    def __post_init__(self) -> None:
        if not self.kinds:
            raise ConfigError(f"data.pii.kinds is empty; name some of {', '.join(get_args(PiiKind))}")


@dataclass(frozen=True)
class TableFormat:
    """Form of the files of a table, where their names and first lines do not show it."""

    kind: FileKind = "auto"
    """Kind of the files; auto goes by their names, such as .parquet, .csv.gz, .tsv or .json."""
    separator: str | None = None
    """Text between the values of a line, such as ";", "|" or "::"; null goes by the first line."""
    columns: tuple[str, ...] | None = None
    """Names of the columns in order, for files whose first line is a row of data."""
    encoding: str = "utf-8"
    """Encoding of text files, such as latin-1."""
    quotes: bool = True
    """Whether quotation marks enclose values; off where they are plain signs of a text."""
    escape: str | None = None
    """Sign before a quotation mark that is part of a value, such as a backslash; null for marks that are doubled."""

    def __post_init__(self) -> None:
        try:
            codecs.lookup(self.encoding)
        except (LookupError, ValueError) as error:
            raise ConfigError(f"encoding={self.encoding!r}: unknown. Use a name such as utf-8 or latin-1.") from error
        if self.separator is not None and not 1 <= len(self.separator) <= 8:
            raise ConfigError(f"separator={self.separator!r}: give 1 to 8 characters, such as ';' or '::'.")
        if self.escape is not None and (len(self.escape) != 1 or not self.escape.isascii()):
            raise ConfigError(f"escape={self.escape!r}: give one character, such as a backslash.")


@dataclass(frozen=True)
class DataConfig:
    """Place of the log, and its columns, units and filters."""

    source: str | None = None
    """Folder with interactions.* and items.* (parquet, csv, jsonl and others, also folders of parts),
    hub:OWNER/NAME, or movielens_small; `memory` for tables that were passed in Python.
    """
    interactions: str | None = None
    """File, folder of parts, pattern such as parts/*.csv, or hub id of the events; in the source's folder if that is
    set.
    """
    items: str | None = None
    """File, folder of parts, pattern or hub id of the items; in the source's folder if that is set."""
    interactions_format: TableFormat = TableFormat()
    """Form of the files of events."""
    items_format: TableFormat = TableFormat()
    """Form of the files of items."""
    user_column: str = "user_id"
    """Column of the events with user ids."""
    item_column: str = "item_id"
    """Column of the events with item ids."""
    time_column: str = "timestamp"
    """Column of the events with times: ISO 8601 text, timestamps or numbers."""
    item_pattern: str | None = None
    """Regular expression for events on several items: each match in the item column is an event on the item that its
    first group holds (else the match), as in (\\S+)-1.
    """
    order_column: str | None = None
    """Column of numbers that sorts events of equal time; null keeps the file's order."""
    catalog_item_column: str = "item_id"
    """Column of the items with item ids."""
    property_columns: tuple[str, str] | None = None
    """Columns with the name and the value of a property, for items with a row for each property; the template names
    properties then.
    """
    release_column: str | None = None
    """Column of the items with the time from which an item can be recommended; null: always."""
    text_template: str = "{title}"
    """Text of an item from its fields; a missing field takes its part of the sentence with it."""
    label_column: str | None = None
    """Column of the items with the short names that people see; null: title, name, or the first field of the template.
    """
    display_columns: tuple[str, ...] = ()
    """Columns of the items that are shown with recommendations; the template need not use them."""
    missing_words: tuple[str, ...] = MISSING_WORDS
    """Words that mean nothing where they are the whole value of an id or of a text."""
    clean: tuple[CleanKind, ...] = ()
    """Cleaning of item texts: html takes out tags and entities, lists reads lists that are written as text (a|b or
    ['a', 'b']).
    """
    time_unit: Literal["auto", "s", "ms", "us", "ns"] = "auto"
    """Unit of times that are epoch numbers; auto infers it from their size."""
    time_format: str = "auto"
    """Form of times: auto (ISO 8601 or epoch numbers), day_first, month_first, yyyymmdd, yyyymmddhh, yymmddhh, yyyymm,
    excel_days and others, or a pattern such as "%d.%m.%Y %H:%M".
    """
    times: Literal["real", "order_only"] = "real"
    """order_only says that times are places in each user's own order, such as 0, 1, 2. Splits, baselines and parts of
    models that need times are left out then, or refused if they are given.
    """
    release_format: str = "auto"
    """Form of the times of release_column, as time_format."""
    timezone: str = "UTC"
    """Time zone of times that carry none, such as Europe/Berlin."""
    repeats: Literal["drop", "keep"] = "drop"
    """drop keeps the first event of a user with an item; keep is for repeat consumption."""
    unknown_items: Literal["error", "drop"] = "error"
    """What to do with events on items that the catalog lacks: stop with an error, or drop them."""
    faulty_rows: Literal["error", "drop"] = "error"
    """What to do with rows without an id or a readable time, and with items without a text or with an id that came
    before: stop with an error, or drop them and count them.
    """
    k_core: Annotated[int, COUNT_FROM_0] = 0
    """Minimum events of each user and item; those with fewer are dropped repeatedly. 0 keeps all."""
    pseudonyms: PseudonymConfig | None = None
    """Replaces user ids by keyed hashes; null keeps the ids."""
    pii: PiiConfig | None = None
    """Removes personal details from item texts and queries; null keeps the texts."""
