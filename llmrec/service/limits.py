"""Checks of requests against the limits of the service."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from llmrec.errors import DataError
from llmrec.service.schemas import HistoryQuery, ItemsRequest, RecommendQuery, ScoreQuery
from llmrec.service.settings import RequestLimits


def check_batch(limits: RequestLimits, entries: Sequence[object]) -> None:
    """Check the number of entries in one request.

    Args:
        limits: Limits of the service.
        entries: Queries, events or items of the request.

    Raises:
        DataError: If there are too many.
    """
    _check_limit("request", "entries in one request", len(entries), limits.batch)


def check_query(limits: RequestLimits, query: HistoryQuery) -> None:
    """Check the sizes of one query, and that it gives a user or a history but not both.

    Args:
        limits: Limits of the service.
        query: The query.

    Raises:
        DataError: If it exceeds a limit or gives both.
    """
    if query.user is not None and query.history is not None:
        raise DataError("request", ["both user and history are given; give one of them"])
    _check_limit("history", "events", len(query.history or ()), limits.history)
    if isinstance(query, RecommendQuery):
        _check_limit("k", "items to recommend", query.k, limits.k)
    if isinstance(query, ScoreQuery):
        _check_limit("items", "items to score", len(query.items), limits.items)
    check_texts(limits, query.new_items())


def check_items(limits: RequestLimits, new: ItemsRequest) -> None:
    """Check the number and the texts of new items.

    Args:
        limits: Limits of the service.
        new: The new items.

    Raises:
        DataError: If there are too many items, or a text is too long.
    """
    check_batch(limits, new.items)
    check_texts(limits, new.items)


def check_texts(limits: RequestLimits, items: Iterable[Mapping[str, Any]]) -> None:
    """Check the length of all texts in the fields of items.

    Args:
        limits: Limits of the service.
        items: Fields of each item.

    Raises:
        DataError: If a text is too long.
    """
    for item in items:
        for value in item.values():
            for each in value if isinstance(value, list) else [value]:
                if isinstance(each, str):
                    _check_limit("items", "characters in one field", len(each), limits.text)


def _check_limit(where: str, what: str, count: int, most: int) -> None:
    if count > most:
        raise DataError(where, [f"{count:,} {what}; at most {most:,} are taken"])
