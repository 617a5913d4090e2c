"""Where a log is and how it is read, and what is done for the privacy of those in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from llmrec.errors import ConfigError

PiiKind = Literal["email", "phone", "credit_card", "iban", "ip"]


@dataclass(frozen=True)
class PseudonymConfig:
    """Where the key of pseudonyms is. The key itself stands in no configuration, and is written nowhere.

    key_env: a variable of the environment that holds it; or key_file: a file that does. At least 32 characters of
        chance: `python -c "import secrets; print(secrets.token_hex(32))"`.
    salt: no secret; with another one the same key makes other pseudonyms, so that two logs cannot be joined by them.
    """

    key_env: str | None = None
    key_file: str | None = None
    salt: str = ""

    def __post_init__(self) -> None:
        if (not self.key_env) == (not self.key_file):
            raise ConfigError("data.pseudonyms: give key_env, the variable that holds the key, or key_file, the file")


@dataclass(frozen=True)
class PiiConfig:
    """What is taken out of texts (`pip install llmrec[scrub]`): what its form and its check digits give away. Names,
    street addresses and dates of birth have no such form, and stay.

    kinds: of details that are looked for.
    phone_regions: countries (ISO 3166) whose phone numbers are known without +.. before them; those with it always are.
    """

    kinds: tuple[PiiKind, ...] = get_args(PiiKind)
    phone_regions: tuple[str, ...] = ("US", "GB")

    def __post_init__(self) -> None:
        if not self.kinds:
            raise ConfigError(f"data.pii.kinds is empty; name some of {', '.join(get_args(PiiKind))}")


@dataclass(frozen=True)
class DataConfig:
    """Where the log is and how to read it.

    source: a folder with interactions.* and items.* (parquet, csv or jsonl), `hub:owner/name` for a
        Hugging Face dataset with configurations or files of those names, or `movielens_small`.
    interactions, items: explicit files (or `hub:` ids) instead of those of `source`.
    order_column: sorts events of equal time; without it they keep the file's order.
    text_template: item text from item fields; a field that is missing takes its sentence part with it.
    time_unit: of integer timestamps; `auto` decides by their size.
    timezone: of timestamps that carry none.
    repeats: `drop` keeps the first event of a (user, item) pair; `keep` is for repeat consumption.
    unknown_items: what to do with events on items that the catalog lacks.
    k_core: drop users and items with fewer events, until none is left (0: keep all).
    pseudonyms: users are known by keyed hashes of their ids from here on; null: by their ids.
    pii: personal details are taken out of item texts, and of words that are asked with; null: texts stay as they are.
    """

    source: str | None = None
    interactions: str | None = None
    items: str | None = None
    user_column: str = "user_id"
    item_column: str = "item_id"
    time_column: str = "timestamp"
    order_column: str | None = None
    catalog_item_column: str = "item_id"
    release_column: str | None = None
    text_template: str = "{title}"
    time_unit: Literal["auto", "s", "ms", "us", "ns"] = "auto"
    timezone: str = "UTC"
    repeats: Literal["drop", "keep"] = "drop"
    unknown_items: Literal["error", "drop"] = "error"
    k_core: int = 0
    pseudonyms: PseudonymConfig | None = None
    pii: PiiConfig | None = None
