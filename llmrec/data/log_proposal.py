"""Settings for a folder of data: which file and column is what, each with the reason for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from llmrec.config.data import DataConfig
from llmrec.data.column_mapping import ColumnGuess, guess_columns, guess_template
from llmrec.data.items.catalog import LABEL_COLUMNS
from llmrec.data.known_logs import KnownLog, recognize_log
from llmrec.data.loading import load_log
from llmrec.data.log import Log
from llmrec.data.readers.places import split_name
from llmrec.data.readers.sample import list_tables, read_sample
from llmrec.data.texts.field_texts import is_text
from llmrec.data.texts.templates import list_fields
from llmrec.data.times.timestamps import PER_SECOND
from llmrec.errors import ConfigError, DataError
from llmrec.utils.units import SECONDS_PER_DAY

REQUIRED = ("user_column", "item_column", "time_column", "catalog_item_column", "text_template")
REPEATED = 0.05  # share of repeated events from which people are taken to come back to items
MEDIAN_OF_UNITS = (("s", 1e11), ("ms", 1e14), ("us", 1e17))  # numbers below are of that unit
COUNTED = 0.9  # share of events of users with times 0, 1, 2, from which times are taken to be an order
DOUBTFUL = (".json", ".dat", ".tab")  # files with such names are often no tables
SETTINGS = {field.name for field in fields(DataConfig)}


@dataclass(frozen=True)
class LogProposal:
    """Proposed settings of a log, which was loaded with them."""

    config: DataConfig
    """The settings."""
    reasons: dict[str, str]
    """Reason of each setting that is not a default, by its name."""
    log: Log
    """The log."""

    @property
    def repeats(self) -> bool:
        """True if users come back to items that they have had."""
        return self.config.repeats == "keep"


def propose_log(folder: Path, given: Mapping[str, Any]) -> LogProposal:
    """Propose the settings of a folder with one file of events and one of items, and load the log.

    Args:
        folder: The folder.
        given: Settings that are known, by name.

    Returns:
        Settings, reasons and log.

    Raises:
        ConfigError: If there is no such folder.
        DataError: If a file or a column cannot be found, or the data is wrong; all problems are listed at once.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder. Give one with a file of events and a file of items.")
    if (known := recognize_log(folder)) is not None:
        return _propose_known(known, given)
    tables = _read_samples(folder)
    guesses, problems = _find_tables(folder, tables)
    if problems:
        raise DataError(str(folder), problems)
    events, items = tables[Path(guesses["interactions"].value)], tables[Path(guesses["items"].value)]
    for guess in [*guess_columns(events.schema, items.schema), *_guess_from_values(events, items, given)]:
        guesses.setdefault(guess.setting, guess)
    settings = {name: guess.value for name, guess in guesses.items() if name in SETTINGS} | dict(given)
    lacking = [_describe_missing(name, events, items) for name in REQUIRED if name not in settings]
    if lacking:
        raise DataError(str(folder), lacking)
    reasons = {name: "given" if name in given else guesses[name].reason for name in settings}
    return _load(DataConfig(**settings), reasons, given)


def _read_samples(folder: Path) -> dict[Path, pa.Table]:
    """Read the first rows of the files of a folder, but of those that only may be tables."""
    tables = dict[Path, pa.Table]()
    for path in list_tables(folder):
        try:
            tables[path] = read_sample(path)
        except DataError:
            if split_name(path)[1] not in DOUBTFUL:
                raise
    return tables


def _propose_known(known: KnownLog, given: Mapping[str, Any]) -> LogProposal:
    """Propose the settings of a preset for a published log."""
    reasons = dict.fromkeys(known.settings, f"as in the preset {known.preset}") | dict.fromkeys(given, "given")
    config = replace(known.config, **given)
    return LogProposal(config, {"source": "the folder"} | reasons, load_log(config))


def _find_tables(folder: Path, tables: Mapping[Path, pa.Table]) -> tuple[dict[str, ColumnGuess], list[str]]:
    """Find the file of events and that of items, by name, else by their columns."""
    found, problems = dict[str, ColumnGuess](), list[str]()
    for role, contents in (("interactions", "users, items and times"), ("items", "the items' ids and texts")):
        named = [path for path in tables if path.stem == role]
        fitting = named or [
            path for path in tables if str(path) not in {guess.value for guess in found.values()}
            and _fits(role, tables[path].schema)
        ]  # fmt: skip
        if len(fitting) == 1:
            reason = "by its name" if named else f"the only file with {contents}"
            found[role] = ColumnGuess(role, str(fitting[0]), reason)
        else:
            names = ", ".join(path.name for path in fitting or tables) or "none"
            which = "several fit" if fitting else "none fits"
            problems.append(f"{role}.*: no such file, and {which} ({names}). Name it {role}.csv, .parquet or .jsonl.")
    return found, problems


def _fits(role: str, columns: pa.Schema) -> bool:
    """Return True if a table has the columns of events, or those of items."""
    settings = {guess.setting for guess in guess_columns(columns, columns)}
    is_log = {"user_column", "time_column"} <= settings
    return is_log if role == "interactions" else not is_log


def _guess_from_values(events: pa.Table, items: pa.Table, given: Mapping[str, Any]) -> list[ColumnGuess]:
    """Guess the text of items, their label and the unit of times, which names do not show."""
    guesses = []
    texts = _rank_text_columns(items)
    if texts and (guess := guess_template(items.schema, texts[0])):
        guesses.append(guess._replace(reason=f"{texts[0]} holds the most text, and no column is called a title"))
    named = {guess.setting: guess.value for guess in guess_columns(events.schema, items.schema)}
    template = given.get("text_template") or named.get("text_template") or (f"{{{texts[0]}}}" if texts else None)
    if template is not None:
        guesses.append(_guess_label(items.schema, template))
    time, user = (given.get(name) or named.get(name) for name in ("time_column", "user_column"))
    if time in events.column_names:
        guess = _guess_order(events[user], events[time]) if user in events.column_names else None
        guesses += filter(None, [guess or _guess_time(events[time])])
    return guesses


def _guess_order(users: pa.ChunkedArray, times: pa.ChunkedArray) -> ColumnGuess | None:
    """Guess that times are places in each user's order: 0, 1, 2, or as many days."""
    if not pa.types.is_integer(times.type) or times.null_count or not len(times):
        return None
    values = np.asarray(times, dtype=np.int64)
    place = values // SECONDS_PER_DAY if (values % SECONDS_PER_DAY == 0).all() else values
    row = np.unique(np.asarray(pc.rank(users, tiebreaker="min")), return_inverse=True)[1]
    order = np.lexsort((place, row))
    counts = np.bincount(row)
    expected = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
    counted = np.bincount(row[order], place[order] != expected) == 0  # True for users with times 0, 1, 2 and so on
    if counts[counted].sum() < COUNTED * len(row) or counts.max() < 2:
        return None
    return ColumnGuess("times", "order_only", "they count 0, 1, 2 within each user, in units or days")


def _guess_label(items: pa.Schema, template: str) -> ColumnGuess:
    """Guess the column that names an item, as a catalog does without the setting."""
    named = [name for name in LABEL_COLUMNS if name in items.names and is_text(items.field(name).type)]
    if named:
        return ColumnGuess("label_column", named[0], "the usual name of such a column")
    return ColumnGuess("label_column", list_fields(template)[0], "the first field of the text")


def _rank_text_columns(items: pa.Table) -> list[str]:
    """Return the columns of text, those with the longest first; ids, links and codes have no spaces in them."""
    lengths = dict[str, float]()
    for name in items.column_names:
        kind = items[name].type
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)) or set(name) & set("{}!:"):
            continue
        spaced = pc.mean(pc.match_substring(items[name], " ")).as_py()
        if spaced is not None and spaced > 0.1:
            lengths[name] = pc.mean(pc.utf8_length(items[name])).as_py()
    return sorted(lengths, key=lambda name: -lengths[name])


def _guess_time(column: pa.ChunkedArray) -> ColumnGuess | None:
    """Say how times are read: the unit of numbers, or the zone of text."""
    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        median = float(pc.quantile(column, 0.5)[0].as_py() or 0)
        unit = next((name for name, most in MEDIAN_OF_UNITS if abs(median) < most), "ns")
        when = f"{median / PER_SECOND[unit] / 31_556_952 + 1970:.0f}"
        return ColumnGuess("time_unit", unit, f"numbers of which the median is in the year {when}")
    if pa.types.is_timestamp(column.type) and column.type.tz is not None:
        return ColumnGuess("timezone", "UTC", f"not used: the times carry a zone ({column.type.tz})")
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        zoned = pc.mean(pc.match_substring_regex(column, r"(?:Z|z|UTC|[+-]\d\d:?\d\d)$")).as_py()
        if zoned == 1:
            return ColumnGuess("timezone", "UTC", "not used: the times carry a zone")
    return ColumnGuess("timezone", "UTC", "assumed: the times carry no zone")


def _describe_missing(setting: str, events: pa.Table, items: pa.Table) -> str:
    """Describe a setting that could not be guessed, with the columns that there are."""
    table, name = (items, "items") if setting in ("catalog_item_column", "text_template") else (events, "interactions")
    columns = ", ".join(table.column_names)
    return f"{name}, columns {columns}: none looks like the {setting}. Give it: --data.{setting} VALUE"


def _load(config: DataConfig, reasons: dict[str, str], given: Mapping[str, Any]) -> LogProposal:
    """Load a log without repeats and events on unknown items; load it again only if users return to items."""
    tried = config if "repeats" in given else replace(config, repeats="drop")
    log = load_log(tried if "unknown_items" in given else replace(tried, unknown_items="drop"))
    facts = log.facts
    if "unknown_items" not in given and facts.n_unknown_items_dropped:
        config = replace(config, unknown_items="drop")
        reasons["unknown_items"] = "some events are on items that the catalog lacks"
    if "repeats" not in given:
        n_events = facts.n_events + facts.n_repeats_dropped + facts.n_dropped_by_k_core
        share = facts.n_repeats_dropped / n_events
        config = replace(config, repeats="keep" if share > REPEATED else "drop")
        reasons["repeats"] = f"{share:.1%} of the events repeat a pair of user and item"
    if config.repeats == "keep" and "repeats" not in given:
        log = load_log(config)
    if config.k_core == 0 and "k_core" not in given:
        reasons["k_core"] = f"0 keeps all {log.n_users:,} users and {log.n_items:,} items; 5 is usual in papers"
    return LogProposal(config, reasons, log)
