"""Histories as people write them -> queries as models take them.

An event is an item's id, or the fields of an item that the catalog lacks (of another shop, or not yet listed), which
the model then reads by its text; either with a time or without one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from numbers import Real
from typing import TypeAlias

import numpy as np

from llmrec.data.catalog import ItemCatalog
from llmrec.data.histories import Histories, Queries
from llmrec.data.timestamps import END_OF_TIME
from llmrec.errors import DataError
from llmrec.utils.arrays import Rows

Time: TypeAlias = "int | float | str | datetime"
Item: TypeAlias = "str | Mapping[str, object]"
Event: TypeAlias = "Item | tuple[Item, Time]"
History: TypeAlias = "str | Sequence[Event]"  # a live user's id, or events
# A live user's row, and the items and times of the newest events, from an id and a moment.
Follow: TypeAlias = "Callable[[str, int | None], tuple[int, Rows, Rows]]"
VERBATIM = "text"


@dataclass(frozen=True, slots=True)
class QueryBatch:
    """Histories that were read. The items of `queries` are rows of the catalog (N,), and from row N on of `texts`.

    users: (B,) rows of the live users whose histories these are, -1 where events were given.
    """

    queries: Queries
    texts: list[str]
    users: Rows


def parse_histories(
    catalog: ItemCatalog, histories: Sequence[History], at: Time | None = None, follow: Follow | None = None
) -> QueryBatch:
    """One query for each history, its events before `at` in time order. follow: looks up users by their ids.

    Raises:
        DataError: an unknown id, an unreadable event or time, or an empty text.
    """
    moment, texts = None if at is None else parse_time(at), dict[str, int]()
    users, read = np.full(len(histories), -1, dtype=np.int64), list[tuple[Rows, Rows]]()
    for position, history in enumerate(histories):
        if isinstance(history, str) and follow is not None:
            users[position], *mine = follow(history, moment)
            read.append((mine[0], mine[1]))
        else:
            read.append(_parse_events(catalog, history, moment, texts))
    lengths = np.array([len(rows) for rows, _ in read], dtype=np.int64)
    offset = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    item = np.concatenate([np.zeros(0, np.int64), *(rows for rows, _ in read)])
    time = np.concatenate([np.zeros(0, np.int64), *(times for _, times in read)])
    last = np.array([times[-1] if len(times) else 0 for _, times in read], dtype=np.int64)
    batch = last if moment is None else np.full(len(read), moment)
    user = np.arange(len(lengths))
    past = Histories(item, time, offset, np.arange(len(item)))
    return QueryBatch(Queries(past, user, batch, np.zeros_like(user), offset[:-1], offset[1:]), list(texts), users)


def render_item_text(catalog: ItemCatalog, item: Mapping[str, object]) -> str:
    """What there is to read of an item in no catalog: `{"text": ...}` as it is, other fields by the template.

    Raises:
        DataError: no mapping, a field that the catalog does not know, or no text.
    """
    if not isinstance(item, Mapping):
        raise DataError("items", [f"{item!r} is no item; give an id as text, or the fields of a new item"])
    if set(item) != {VERBATIM}:
        return catalog.render_text(item)
    if not str(item[VERBATIM] or "").strip():
        raise DataError("items", ["empty text; give what there is to read about the item"])
    return str(item[VERBATIM])


def find_item_rows(catalog: ItemCatalog, ids: Sequence[str]) -> Rows:
    """(C,) rows of ids; where one is unknown the error tells how to give an item that is in no catalog."""
    try:
        return catalog.find_rows(ids)
    except DataError as error:
        hint = 'for an item in no catalog give its fields: {"title": ...}, or {"text": ...}'
        raise DataError("items", [*error.problems, hint]) from error


def check_equal_length(histories: Sequence[History], items: Sequence[object]) -> None:
    """Raises DataError unless there is one of the one for each of the other."""
    if isinstance(histories, str) or len(histories) != len(items):
        raise DataError("items", [f"{len(items)} for {len(histories)} histories; give each history its own"])


def get_event_item(event: Event) -> Item:
    """The item of an event, with or without a time."""
    return event if isinstance(event, (str, Mapping)) else event[0]


def parse_time(time: Time) -> int:
    """Seconds since the epoch; UTC where the time does not say.

    Raises:
        DataError: not a time, or one beyond the year 9999, as milliseconds are.
    """
    try:
        if isinstance(time, Real):  # NumPy's numbers too
            seconds = int(time)
        else:
            moment = time if isinstance(time, datetime) else datetime.fromisoformat(str(time).replace("Z", "+00:00"))
            seconds = int((moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp())
    except (ValueError, OverflowError) as error:
        raise DataError("time", [f"{time!r} is not an ISO date or time such as 2024-05-01T12:00:00+02:00"]) from error
    if abs(seconds) >= END_OF_TIME:
        raise DataError("time", [f"{time!r} is too far from 1970 for seconds; give seconds, not milliseconds"])
    return seconds


def _parse_events(catalog: ItemCatalog, history: History, at: int | None, texts: dict[str, int]) -> tuple[Rows, Rows]:
    """Rows and times of the events of one history that lie before `at`, oldest first; new texts join `texts`."""
    if isinstance(history, (str, Mapping)):
        raise DataError("history", [f"{history!r} is one {'id' if isinstance(history, str) else 'item'}; give a list"])
    odd = [event for event in history if not isinstance(event, (str, Mapping)) and not _is_pair(event)]
    if odd:
        raise DataError("history", [f"{odd[0]!r} is no event; give ids or fields of items, or (item, time) pairs"])
    items = [get_event_item(event) for event in history]
    rows = np.zeros(len(items), dtype=np.int64)
    listed = np.array([not isinstance(item, Mapping) for item in items], dtype=np.bool_)
    rows[listed] = find_item_rows(catalog, [item for item in items if not isinstance(item, Mapping)])
    new = [render_item_text(catalog, item) for item in items if isinstance(item, Mapping)]
    rows[~listed] = [texts.setdefault(text, len(catalog) + len(texts)) for text in new]
    timed = [event[1] for event in history if not isinstance(event, (str, Mapping))]
    if not timed:
        return rows, np.full(len(rows), at or 0, dtype=np.int64)
    if len(timed) < len(history):
        raise DataError("history", ["some events have a time and some have none; give all of them one, or none"])
    times = np.array([parse_time(time) for time in timed], dtype=np.int64)
    order = np.argsort(times, kind="stable")
    if at is not None:
        order = order[times[order] < at]
    return rows[order], times[order]


def _is_pair(event: object) -> bool:
    return isinstance(event, (tuple, list)) and len(event) == 2
