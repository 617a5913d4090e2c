"""Requests that the worker answers, each with the new items whose texts it needs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from llmrec.inference.queries import VERBATIM, History, Time

New = Mapping[str, object]  # the fields of an item


@dataclass(frozen=True)
class RecommendJob:
    """Request for `Recommender.recommend` with one history."""

    history: History
    """Events or a live user."""
    k: int
    """Items to recommend."""
    at: Time | None = None
    """Query time."""
    include_seen: bool | None = None
    """Recommend items of the history too; None: as the evaluation of the bundle ranked them."""
    query: str | None = None
    """Text query."""
    filters: tuple[str, ...] | None = None
    """Conditions on fields."""
    topic: str | None = None
    """Words that the catalog is narrowed to."""
    new: tuple[New, ...] = ()
    """Items whose texts the request needs."""

    @property
    def batch_key(self) -> tuple[object, ...]:
        """Options that must be equal for histories to be ranked together."""
        return self.at, self.include_seen, self.query, self.filters, self.topic


@dataclass(frozen=True)
class Job:
    """Any other call with the recommender."""

    call: Callable[[], Any]
    """Function without arguments."""
    new: tuple[New, ...] = ()
    """Items whose texts the call needs."""


Question = RecommendJob | Job


def as_raw_text(words: Iterable[str | None]) -> tuple[New, ...]:
    """Convert words to items that are read as they are.

    Args:
        words: Texts; empty ones and None are left out.

    Returns:
        Fields of one item for each text.
    """
    return tuple({VERBATIM: each} for each in words if each and each.strip())
