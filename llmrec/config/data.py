"""Settings of a log: its place, columns and filters, and the protection of the people in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, get_args

from llmrec.config.validation import COUNT_FROM_0
from llmrec.errors import ConfigError

PiiKind = Literal["email", "phone", "credit_card", "iban", "ip"]


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
class DataConfig:
    """Place of the log, and its columns, units and filters."""

    source: str | None = None
    """Folder with interactions.* and items.* (parquet, csv or jsonl), hub:OWNER/NAME, or movielens_small; `memory` for
    tables that were passed in Python.
    """
    interactions: str | None = None
    """File or hub id of the events, in place of the source's."""
    items: str | None = None
    """File or hub id of the items, in place of the source's."""
    user_column: str = "user_id"
    """Column of the events with user ids."""
    item_column: str = "item_id"
    """Column of the events with item ids."""
    time_column: str = "timestamp"
    """Column of the events with times: ISO 8601 text, timestamps or numbers."""
    order_column: str | None = None
    """Column of numbers that sorts events of equal time; null keeps the file's order."""
    catalog_item_column: str = "item_id"
    """Column of the items with item ids."""
    release_column: str | None = None
    """Column of the items with the time from which an item can be recommended; null: always."""
    text_template: str = "{title}"
    """Text of an item from its fields; a missing field takes its part of the sentence with it."""
    label_column: str | None = None
    """Column of the items with the short names that people see; null: title, name, or the first field of the template.
    """
    display_columns: tuple[str, ...] = ()
    """Columns of the items that are shown with recommendations; the template need not use them."""
    time_unit: Literal["auto", "s", "ms", "us", "ns"] = "auto"
    """Unit of times that are numbers; auto infers it from their size."""
    timezone: str = "UTC"
    """Time zone of times that carry none, such as Europe/Berlin."""
    repeats: Literal["drop", "keep"] = "drop"
    """drop keeps the first event of a user with an item; keep is for repeat consumption."""
    unknown_items: Literal["error", "drop"] = "error"
    """What to do with events on items that the catalog lacks: stop with an error, or drop them."""
    k_core: Annotated[int, COUNT_FROM_0] = 0
    """Minimum events of each user and item; those with fewer are dropped repeatedly. 0 keeps all."""
    pseudonyms: PseudonymConfig | None = None
    """Replaces user ids by keyed hashes; null keeps the ids."""
    pii: PiiConfig | None = None
    """Removes personal details from item texts and queries; null keeps the texts."""
