"""Guesses of the columns of a log and of its item text, from names and types, each with its reason."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pyarrow as pa

from llmrec.data.texts.field_texts import is_text

EXACT = {"user_column": "user_id", "item_column": "item_id", "time_column": "timestamp"}  # defaults of DataConfig
USER_NAMES = """
    userid user customerid customer clientid client visitorid visitor memberid member accountid account reviewerid
    reviewer authorid sessionid session uid profileid personid
"""
ITEM_NAMES = """
    itemid item productid product movieid movie filmid film bookid book songid song trackid track artistid
    articleid article newsid videoid recipeid gameid businessid contentid parentasin asin isbn sku stockcode iid
"""
TIME_NAMES = """
    timestamp time datetime ts eventtime unixreviewtime reviewtime unixtime createdat createdutc eventtimestamp
    interactiontime invoicedate orderdate purchasedate reviewdate date submitted day
"""
TITLE_NAMES = """
    title name itemtitle itemname productname producttitle movietitle booktitle songname headline description
"""
DETAIL_NAMES = """
    brand author authors artist director maker manufacturer store genres genre categories category maincategory
    department section producttype type tags topics
"""


class ColumnGuess(NamedTuple):
    """Setting of the data section that was guessed."""

    setting: str
    """Name of the setting in DataConfig."""
    value: str
    """Name of a column, or the template."""
    reason: str
    """Why, as a short phrase."""


def guess_columns(events: pa.Schema, items: pa.Schema) -> list[ColumnGuess]:
    """Guess which columns hold users, items and times, and which make the text of an item.

    A column that cannot be guessed is left out, so that loading the log reports it with the names that exist.

    Args:
        events: Columns of the events.
        items: Columns of the items.

    Returns:
        At most one guess for each of user_column, item_column, time_column, catalog_item_column and text_template.

    Example:
        >>> events = pa.schema({"userId": pa.int64(), "movieId": pa.int64(), "time": pa.int64()})
        >>> items = pa.schema({"movieId": pa.int64(), "title": pa.string(), "genres": pa.string()})
        >>> for guess in guess_columns(events, items):
        ...     print(guess.setting, guess.value)
        user_column userId
        item_column movieId
        time_column time
        catalog_item_column movieId
        text_template {title}. Genres: {genres}
    """
    guesses = [
        _guess_by_name("user_column", events, USER_NAMES),
        _guess_by_name("item_column", events, ITEM_NAMES) or _guess_shared_column(events, items),
        _guess_by_name("time_column", events, TIME_NAMES) or _guess_time_by_type(events),
    ]
    item_column = guesses[1].value if guesses[1] else EXACT["item_column"]
    guesses += [_guess_catalog_column(items, item_column), guess_template(items)]
    return [guess for guess in guesses if guess is not None]


def guess_template(items: pa.Schema, title: str | None = None) -> ColumnGuess | None:
    """Guess the template of item texts: a title, then details such as brand and genres.

    Args:
        items: Columns of the items.
        title: Column that names an item; None for one that is called so.

    Returns:
        The guess; None if no column looks like a title.
    """
    title = title or next(_find_by_names(items, TITLE_NAMES, is_text), None)
    if title is None:
        return None
    details = [name for name in _find_by_names(items, DETAIL_NAMES, _is_text_or_list) if name != title]
    template = ". ".join([f"{{{title}}}", *(f"{_to_words(name)}: {{{name}}}" for name in details)])
    listed = ", ".join([title, *details])
    return ColumnGuess("text_template", template, f"{listed}: columns of text that describe an item")


def _guess_by_name(setting: str, columns: pa.Schema, names: str) -> ColumnGuess | None:
    """Guess a column by its name; the default name comes first."""
    if EXACT[setting] in columns.names:
        return ColumnGuess(setting, EXACT[setting], "the default name")
    found = next(_find_by_names(columns, names, lambda kind: True), None)
    return None if found is None else ColumnGuess(setting, found, "the usual name of such a column")


def _guess_shared_column(events: pa.Schema, items: pa.Schema) -> ColumnGuess | None:
    shared = [name for name in events.names if name in items.names]
    return ColumnGuess("item_column", shared[0], "the only column of both tables") if len(shared) == 1 else None


def _guess_time_by_type(events: pa.Schema) -> ColumnGuess | None:
    times = [field.name for field in events if pa.types.is_timestamp(field.type)]
    return ColumnGuess("time_column", times[0], "the only column of times") if len(times) == 1 else None


def _guess_catalog_column(items: pa.Schema, item_column: str) -> ColumnGuess | None:
    if item_column in items.names:
        return ColumnGuess("catalog_item_column", item_column, "the name of the item column of the events")
    found = next(_find_by_names(items, f"{ITEM_NAMES} id", lambda kind: True), None)
    return None if found is None else ColumnGuess("catalog_item_column", found, "the usual name of such a column")


def _find_by_names(columns: pa.Schema, names: str, fits: Callable[[pa.DataType], bool]) -> Iterator[str]:
    """Yield the columns with a name of the list and a fitting type, in the order of the list."""
    spelled: dict[str, list[str]] = {}
    for field in columns:
        if fits(field.type) and not set(field.name) & set("{}!:"):  # signs that a template gives a meaning
            spelled.setdefault(re.sub(r"[\W_]", "", field.name.lower()), []).append(field.name)
    for name in names.split():
        yield from spelled.get(name, [])


def _is_text_or_list(kind: pa.DataType) -> bool:
    return is_text(kind) or ((pa.types.is_list(kind) or pa.types.is_large_list(kind)) and is_text(kind.value_type))


def _to_words(name: str) -> str:
    """Return a column name as words: `main_category` and `mainCategory` as `Main category`.

    Example:
        >>> _to_words("mainCategory"), _to_words("main_category")
        ('Main category', 'Main category')
    """
    return re.sub(r"(?<=[a-z])(?=[A-Z])|[\W_]+", " ", name).strip().capitalize()
