"""Parse histories as people write them into queries as models take them.

An event is an item's id, or the fields of an item that the catalog lacks (of another shop, or not yet listed), which
the model reads by its text; either comes with a time or without one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from numbers import Real
from typing import TypeAlias, TypeGuard, cast

import numpy as np

from llmrec.data.histories import Histories, Queries
from llmrec.data.ids import Id, format_id, is_id
from llmrec.data.items.catalog import ItemCatalog
from llmrec.data.times.timestamps import END_OF_TIME
from llmrec.errors import DataError
from llmrec.utils.arrays import Rows

Time: TypeAlias = "int | float | str | datetime"
Item: TypeAlias = "Id | Mapping[str, object]"
Event: TypeAlias = "Item | tuple[Item, Time]"
History: TypeAlias = "Id | Sequence[Event]"  # a live user's id, or events
# A live user's row, and the items and times of the newest events, from an id and a moment.
Follow: TypeAlias = "Callable[[str, int | None], tuple[int, Rows, Rows]]"
VERBATIM = "text"


@dataclass(frozen=True, slots=True)
class QueryBatch:
    """B parsed histories."""

    queries: Queries
    """Queries, whose items are rows of the catalog (N,), and from row N on of `texts`."""
    texts: list[str]
    """Texts of the items that are in no catalog, (R,)."""
    users: Rows
    """Rows of the live users that the histories belong to, (B,); -1 for given events."""


def parse_histories(
    catalog: ItemCatalog, histories: Sequence[History], *, at: Time | None = None, follow: Follow | None = None
) -> QueryBatch:
    """Parse histories into one query each, with the events before `at` in time order.

    Args:
        catalog: Items of the bundle.
        histories: B histories.
        at: Query time; the time of each history's last event if None.
        follow: Looks up live users by their ids; None if histories must be events.

    Returns:
        The queries, (B,).

    Raises:
        DataError: If an id is unknown, an event or time unreadable, or a text empty.
    """
    moment, texts = None if at is None else parse_time(at), dict[str, int]()
    users, read = np.full(len(histories), -1, dtype=np.int64), list[tuple[Rows, Rows]]()
    for position, history in enumerate(histories):
        if is_id(history) and follow is not None:
            users[position], *events = follow(format_id(history), moment)
            read.append((events[0], events[1]))
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


def render_item_text(catalog: ItemCatalog, item: object) -> str:
    """Return the text of an item in no catalog: `{"text": ...}` as it is, other fields by the template.

    Args:
        catalog: Items of the bundle, with the template.
        item: Fields of the item.

    Returns:
        The text.

    Raises:
        DataError: If it is not a mapping, a field is unknown, or there is no text.
    """
    if not isinstance(item, Mapping):
        raise DataError("items", [f"{item!r} is no item; give an id, or the fields of a new item"])
    if set(item) != {VERBATIM}:
        return catalog.render_text(item)
    if not str(item[VERBATIM] or "").strip():
        raise DataError("items", ["empty text; give what there is to read about the item"])
    return str(item[VERBATIM])


def find_item_rows(catalog: ItemCatalog, ids: Sequence[Id]) -> Rows:
    """Return the row of each id.

    Args:
        catalog: Items of the bundle.
        ids: C ids.

    Returns:
        Catalog rows, (C,).

    Raises:
        DataError: If an id is unknown; the message explains how to give an item that is in no catalog.
    """
    try:
        return catalog.find_rows(ids)
    except DataError as error:
        hint = 'for an item in no catalog give its fields: {"title": ...}, or {"text": ...}'
        raise DataError("items", [*error.problems, hint]) from error


def check_equal_length(histories: Sequence[History], items: Sequence[object]) -> None:
    """Check that there is one entry of `items` for each history.

    Args:
        histories: B histories.
        items: Items, or lists of items, of the histories.

    Raises:
        DataError: If the numbers differ.
    """
    if is_id(histories) or len(histories) != len(items):
        raise DataError("items", [f"{len(items)} for {len(histories)} histories; give each history its own"])


def get_event_item(event: Event) -> Item:
    """Return the item of an event, with or without a time.

    Args:
        event: Item, or (item, time) pair.

    Returns:
        Id, or fields.
    """
    return event[0] if is_timed(event) else event


def is_timed(event: Event) -> TypeGuard[tuple[Item, Time]]:
    """Return whether an event has a time.

    Args:
        event: Item, or (item, time) pair.

    Returns:
        True for a pair.
    """
    return not (isinstance(event, Mapping) or is_id(event))


def to_text_history(catalog: ItemCatalog, history: Sequence[Event]) -> list[Event]:
    """Replace the items of a history by their texts, which a recommender of another catalog can read.

    Args:
        catalog: Items of the bundle.
        history: Events.

    Returns:
        The events with texts, their times unchanged.

    Raises:
        DataError: If an id is unknown, or fields make no text.
    """
    return [_to_text_event(catalog, event) for event in history]


def parse_time(time: Time) -> int:
    """Convert a time to seconds since 1970, in UTC unless it has a time zone.

    Args:
        time: Seconds, datetime or ISO 8601 string.

    Returns:
        Whole seconds.

    Raises:
        DataError: If it is not a time, or is beyond the year 9999, as milliseconds are.
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
    """Return rows and times of a history's events before `at`, oldest first, and add new texts to `texts`."""
    if isinstance(history, Mapping) or is_id(history):
        kind = "item" if isinstance(history, Mapping) else "id"
        raise DataError("history", [f"{history!r} is one {kind}; give a list"])
    events = cast("Sequence[Event]", history)
    for event in events:
        if is_timed(event) and not _is_pair(event):
            raise DataError("history", [f"{event!r} is no event; give ids or fields of items, or (item, time) pairs"])
    items = [get_event_item(event) for event in events]
    rows = np.zeros(len(items), dtype=np.int64)
    listed = np.array([not isinstance(item, Mapping) for item in items], dtype=np.bool_)
    rows[listed] = find_item_rows(catalog, [item for item in items if not isinstance(item, Mapping)])
    new = [render_item_text(catalog, item) for item in items if isinstance(item, Mapping)]
    rows[~listed] = [texts.setdefault(text, len(catalog) + len(texts)) for text in new]
    timed = [event[1] for event in events if is_timed(event)]
    if not timed:
        return rows, np.full(len(rows), at or 0, dtype=np.int64)
    if len(timed) < len(events):
        raise DataError("history", ["some events have a time and some have none; give all of them one, or none"])
    times = np.array([parse_time(time) for time in timed], dtype=np.int64)
    order = np.argsort(times, kind="stable")
    if at is not None:
        order = order[times[order] < at]
    return rows[order], times[order]


def _is_pair(event: object) -> bool:
    return isinstance(event, (tuple, list)) and len(event) == 2


def _to_text_event(catalog: ItemCatalog, event: Event) -> Event:
    item = get_event_item(event)
    if is_id(item):
        text = str(catalog.text_array[int(find_item_rows(catalog, [item])[0])])
    else:
        text = render_item_text(catalog, item)
    return ({VERBATIM: text}, event[1]) if is_timed(event) else {VERBATIM: text}
