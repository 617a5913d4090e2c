"""What one request may ask for, checked where its parts are known."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from llmrec.errors import DataError
from llmrec.service.schemas import HistoryQuery, ItemsRequest, RecommendQuery, ScoreQuery
from llmrec.service.settings import RequestLimits


def check_batch(limits: RequestLimits, asked: Sequence[object]) -> None:
    """Raises DataError where more is asked at once than may be."""
    _check_limit("request", "entries in one request", len(asked), limits.batch)


def check_query(limits: RequestLimits, query: HistoryQuery) -> None:
    """Raises DataError where one query asks for too much, or contradicts itself."""
    if query.user is not None and query.history is not None:
        raise DataError("request", ["both user and history are given; give one of them"])
    _check_limit("history", "events", len(query.history or ()), limits.history)
    if isinstance(query, RecommendQuery):
        _check_limit("k", "items to recommend", query.k, limits.k)
    if isinstance(query, ScoreQuery):
        _check_limit("items", "items to score", len(query.items), limits.items)
    check_texts(limits, query.new_items())


def check_items(limits: RequestLimits, new: ItemsRequest) -> None:
    """Raises DataError where too many items come at once, or too much is written of one."""
    check_batch(limits, new.items)
    check_texts(limits, new.items)


def check_texts(limits: RequestLimits, items: Iterable[Mapping[str, Any]]) -> None:
    """Raises DataError where more is written of an item than is read."""
    for item in items:
        for value in item.values():
            for each in value if isinstance(value, list) else [value]:
                if isinstance(each, str):
                    _check_limit("items", "characters in one field", len(each), limits.text)


def _check_limit(where: str, what: str, asked: int, most: int) -> None:
    if asked > most:
        raise DataError(where, [f"{asked:,} {what}; at most {most:,} are taken"])
