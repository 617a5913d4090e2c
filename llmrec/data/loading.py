"""Loading of a log: read the tables, check them at once, filter the events and count the dropped."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from llmrec.config.data import DataConfig
from llmrec.data.filters import drop_repeats, filter_k_core, renumber
from llmrec.data.ids import Codes, EncodedIds, encode_ids
from llmrec.data.interactions import Interactions
from llmrec.data.item_properties import join_properties, list_item_columns
from llmrec.data.items.catalog import ItemCatalog, read_catalog
from llmrec.data.items.item_lists import split_item_lists
from llmrec.data.log import Log, LogFacts, format_log_facts, make_log
from llmrec.data.pii import make_pii_redactor
from llmrec.data.problems import ColumnProblem, NamedTable, find_missing_columns, format_problems
from llmrec.data.pseudonyms import Pseudonymizer
from llmrec.data.readers.files import list_event_columns, read_items, read_tables
from llmrec.data.readers.hub import HUB
from llmrec.data.readers.memory import MEMORY, LogTables, read_memory
from llmrec.data.times.timestamps import ParsedTimes, Resolution, parse_times
from llmrec.errors import DataError
from llmrec.utils.arrays import Mask, Rows
from llmrec.utils.timing import timer

logger = logging.getLogger(__name__)
__all__ = ["Log", "LogFacts", "load_catalog", "load_log"]


class _EventColumns(NamedTuple):
    """Parsed columns of a table of E events."""

    users: EncodedIds
    """User ids."""
    items: EncodedIds
    """Item ids."""
    times: ParsedTimes
    """Times."""
    order: Rows | None
    """Order of events of equal time, (E,)."""
    faulty: Mask | None
    """True for events that are dropped as faulty, (E,); None if there are none."""


@timer.section("load")
def load_log(config: DataConfig, tables: LogTables | None = None) -> Log:
    """Read, check and filter a log and its catalog.

    Events on unknown items are dropped first (if `unknown_items` is `drop`), then repeats, then rare users and items.
    The
    catalog stays whole: items keep their rows, with or without events. Users are numbered as they first appear.

    Args:
        config: Sources, columns, filters, pseudonyms and redaction.
        tables: Events and items in memory (pandas, polars, Arrow, datasets.Dataset), instead of the sources.

    Returns:
        The log.

    Raises:
        ConfigError: If there is no source, the time zone is unknown, or the items lack a field of the template.
        DataError: If anything is wrong with the data; all problems are listed at once.
    """
    problems: list[str] = []
    source = MEMORY if tables is not None else config.source or config.interactions or "data"
    names = Pseudonymizer(config.pseudonyms).require_key()
    if tables is None:
        events, items = read_tables(config, problems)
    else:
        needed = list_event_columns(config), list_item_columns(config)
        events, items = read_memory(tables, problems, needed=needed)
    items = None if items is None else join_properties(items, config)
    n_items = 0 if items is None else items.table.num_rows + items.n_skipped
    items, scrubbed = _redact_items(items, config)
    catalog = None if items is None else _build_catalog(items, config, problems)
    events = None if events is None else split_item_lists(events, config)
    columns = None if events is None else _parse_events(events, config, problems, names)
    rows = np.zeros(0, dtype=np.int32)
    if events is not None and columns is not None and (known := _collect_item_ids(items, catalog, config)) is not None:
        rows = _match_items(events, columns, known, config, problems=problems)
    if problems or events is None or columns is None or catalog is None:
        raise DataError(source, list(dict.fromkeys(problems)))
    faulty = (0 if columns.faulty is None else int(columns.faulty.sum())) + events.n_skipped
    n_faulty = {"events": faulty, "items": n_items - len(catalog)}
    n_written = len(rows) + events.n_skipped
    del events, items  # a table is as large as the log made from it, and so are its columns
    pa.default_memory_pool().release_unused()
    read = _RawLog(
        [_sort_events(columns, rows)], columns.users.ids, columns.times.resolution, n_written, n_faulty, scrubbed
    )
    del columns, rows
    pa.default_memory_pool().release_unused()
    log = _filter_log(source, read, catalog, config, names=names)
    pa.default_memory_pool().release_unused()
    logger.info("\n".join(format_log_facts(log.facts)), extra={"run": {"data": {log.facts.source: asdict(log.facts)}}})
    return log


def load_catalog(config: DataConfig) -> ItemCatalog:
    """Load the items without their log: ids, the fields of the template and release times.

    Args:
        config: Sources, columns and template.

    Returns:
        The catalog.

    Raises:
        ConfigError: If there is no source, the time zone is unknown, or the items lack a field of the template.
        DataError: If anything is wrong with the items; all problems are listed at once.
    """
    problems: list[str] = []
    items = read_items(config, problems, only_needed=True)
    items = None if items is None else join_properties(items, config)
    items, _ = _redact_items(items, config)
    catalog = None if items is None else _build_catalog(items, config, problems)
    if catalog is None:
        raise DataError(config.source or config.items or "data", problems)
    del items  # as large as the catalog
    pa.default_memory_pool().release_unused()
    return catalog


class _RawLog(NamedTuple):
    """Log in time order, before its events are filtered."""

    events: list[Interactions]
    """List of one log, which is taken out of it so that a filter never holds a second one in memory."""
    user_ids: pa.LargeStringArray
    """User ids, (n_users,)."""
    resolution: Resolution
    """Resolution of the times."""
    n_written: int
    """Number of events, including those that are dropped."""
    n_faulty: dict[str, int]
    """Number of faulty rows that were dropped, of events and of items."""
    scrubbed: dict[str, int]
    """Number of personal details removed from item texts, by kind."""


def _redact_items(items: NamedTable | None, config: DataConfig) -> tuple[NamedTable | None, dict[str, int]]:
    redactor = make_pii_redactor(config.pii)
    if items is None or redactor is None:
        return items, {}
    but = [config.catalog_item_column, *filter(None, [config.release_column])]
    table, counts = redactor.redact_table(items.table, but)
    return items._replace(table=table), dict(counts)


def _build_catalog(items: NamedTable, config: DataConfig, problems: list[str]) -> ItemCatalog | None:
    return read_catalog(items, problems, config)


def _parse_events(
    events: NamedTable, config: DataConfig, problems: list[str], called: Pseudonymizer
) -> _EventColumns | None:
    """Parse the columns of a log; None if a column is missing or there are no events."""
    names = [config.user_column, config.item_column, config.time_column]
    table = events.table
    lacking = find_missing_columns(events.name, [*names, *filter(None, [config.order_column])], table.column_names)
    if not lacking and not table.num_rows:
        lacking = [f"{events.name}: no events. Add at least one."]
    if lacking:
        problems += lacking
        return None
    user, item, time = (table[name] for name in names)
    order, unordered = _rank_ties(events, config, problems)
    read = _EventColumns(
        encode_ids(user, missing_words=config.missing_words),
        encode_ids(item, missing_words=config.missing_words),
        _parse_order(time) if config.times == "order_only" else _parse_times(time, config),
        order,
        None,
    )
    found = dict(zip(names, (read.users.faults, read.items.faults, read.times.faults), strict=True))
    if config.order_column is not None:
        found[config.order_column] = [*found.get(config.order_column, []), *unordered]
    if config.faulty_rows == "drop":
        read = read._replace(faulty=_combine_faults([fault for faults in found.values() for fault in faults]))
        if read.faulty is not None and read.faulty.all():
            problems.append(f"{events.name}: no event is left after faulty_rows=drop. Correct the rows.")
    if config.faulty_rows == "error" or (read.faulty is not None and read.faulty.all()):
        for name, faults in found.items():
            problems += format_problems(events.name, name, table[name], faults, quoted=not called.hides_ids)
    return read._replace(users=read.users._replace(ids=called.pseudonyms(read.users.ids)))


def _parse_times(column: pa.ChunkedArray, config: DataConfig) -> ParsedTimes:
    return parse_times(column, config.time_unit, timezone=config.timezone, form=config.time_format)


def _parse_order(column: pa.ChunkedArray) -> ParsedTimes:
    """Parse places in an order, which may look like dates and are read as plain numbers."""
    return parse_times(column, "s")._replace(resolution="order")


def _combine_faults(faults: Sequence[ColumnProblem]) -> Mask | None:
    """Return the rows that have some problem, (E,); None if there are none."""
    faulty = None
    for fault in faults:
        if fault.rows.any():
            faulty = fault.rows.copy() if faulty is None else faulty | fault.rows
    return faulty


def _rank_ties(events: NamedTable, config: DataConfig, problems: list[str]) -> tuple[Rows | None, list[ColumnProblem]]:
    """Return the rank of each event in the column that breaks ties (E,), and the events without one."""
    name = config.order_column
    if name is None:
        return None, []
    column = events.table[name]
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
        problems.append(
            f"{events.name}, column '{name}': type {column.type} does not define an order. Use a column of numbers."
        )
        return np.zeros(len(column), dtype=np.int64), []
    absent = ColumnProblem("no number", np.asarray(pc.is_null(column, nan_is_null=True)), "Number every row")
    return np.unique(np.asarray(column), return_inverse=True)[1].astype(np.int64), [absent]


def _collect_item_ids(
    items: NamedTable | None, catalog: ItemCatalog | None, config: DataConfig
) -> pa.LargeStringArray | None:
    """Return the item ids, even of a table too faulty for a catalog, so that events are checked too."""
    if catalog is not None:
        return catalog.ids
    if items is None or config.catalog_item_column not in items.table.column_names:
        return None
    return encode_ids(items.table[config.catalog_item_column], missing_words=config.missing_words).ids


def _match_items(
    events: NamedTable, columns: _EventColumns, known: pa.LargeStringArray, config: DataConfig, *, problems: list[str]
) -> Codes:
    """Return the row in `known` of each event's item (E,), -1 if unknown and such events are dropped."""
    found = np.asarray(pc.index_in(columns.items.ids, value_set=known).fill_null(-1))
    rows = np.append(found, np.int32(-1))[columns.items.codes]
    if config.unknown_items == "error":
        unknown = (rows < 0) & (columns.items.codes >= 0)
        unknown &= True if columns.faulty is None else ~columns.faulty
        fault = ColumnProblem("item without catalog entry", unknown, "Add it to the items, or set unknown_items: drop")
        column, quoted = config.item_column, config.pseudonyms is None
        problems += format_problems(events.name, column, events.table[column], [fault], quoted=quoted)
    return rows


def _sort_events(columns: _EventColumns, rows: Codes) -> Interactions:
    """Sort the events on known items by time."""
    user, seconds, order = columns.users.codes, columns.times.seconds, _compute_tie_order(columns)
    known = rows >= 0 if columns.faulty is None else (rows >= 0) & ~columns.faulty
    if not known.all():
        user, rows, seconds = user[known], rows[known], seconds[known]
        order = None if order is None else order[known]
    return Interactions.sort(user, rows, seconds, order=order)


def _filter_log(source: str, read: _RawLog, catalog: ItemCatalog, config: DataConfig, *, names: Pseudonymizer) -> Log:
    events = read.events.pop()
    n_known = len(events)
    if config.repeats == "drop":
        events = drop_repeats(events, len(catalog))
    n_unique = len(events)
    events = filter_k_core(events, len(read.user_ids), len(catalog), config.k_core)
    if not len(events):
        reason = f"k_core={config.k_core}" if n_unique else f"unknown_items={config.unknown_items}"
        raise DataError(source, [f"{source}: no event of {read.n_written} is left after {reason}. Loosen it."])
    events, users = renumber(events)
    return make_log(
        source if source.startswith(HUB) else Path(source).name,  # the folder of a machine stays private
        events,
        catalog,
        read.user_ids.take(pa.array(users)),
        resolution=read.resolution,
        n_repeats_dropped=n_known - n_unique,
        n_unknown_items_dropped=read.n_written - n_known - read.n_faulty["events"],
        n_dropped_by_k_core=n_unique - len(events),
        names=names,
        n_scrubbed=read.scrubbed,
        n_faulty={what: count for what, count in read.n_faulty.items() if count},
    )


def _compute_tie_order(columns: _EventColumns) -> Rows | None:
    """Return the order of events within a second (E,): by its fraction, then by the order column."""
    fraction, order = columns.times.fraction, columns.order
    if not fraction.any():
        return order
    keys = (fraction,) if order is None else (order, fraction)
    ranks = np.empty(len(fraction), dtype=np.int64)
    ranks[np.lexsort(keys)] = np.arange(len(fraction))
    return ranks
