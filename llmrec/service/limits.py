"""What one request may ask for, checked where its parts are known."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from llmrec.errors import DataError
from llmrec.service.schemas import NewItems, RecommendQuery, ScoreQuery, Who
from llmrec.service.settings import Limits


def check_batch(limits: Limits, asked: Sequence[object]) -> None:
    """Raises DataError where more is asked at once than may be."""
    _at_most("request", "entries in one request", len(asked), limits.batch)


def check_query(limits: Limits, query: Who) -> None:
    """Raises DataError where one query asks for too much, or contradicts itself."""
    if query.user is not None and query.history is not None:
        raise DataError("request", ["both user and history are given; give one of them"])
    _at_most("history", "events", len(query.history or ()), limits.history)
    if isinstance(query, RecommendQuery):
        _at_most("k", "items to recommend", query.k, limits.k)
    if isinstance(query, ScoreQuery):
        _at_most("items", "items to score", len(query.items), limits.items)
    check_texts(limits, query.new())


def check_items(limits: Limits, new: NewItems) -> None:
    """Raises DataError where too many items come at once, or too much is written of one."""
    check_batch(limits, new.items)
    check_texts(limits, new.items)


def check_texts(limits: Limits, items: Iterable[Mapping[str, Any]]) -> None:
    """Raises DataError where more is written of an item than is read."""
    for item in items:
        for value in item.values():
            for each in value if isinstance(value, list) else [value]:
                if isinstance(each, str):
                    _at_most("items", "characters in one field", len(each), limits.text)


def _at_most(where: str, what: str, asked: int, most: int) -> None:
    if asked > most:
        raise DataError(where, [f"{asked:,} {what}; at most {most:,} are taken"])
