"""Explanations: summands of an item's probability and score, by term and by event of the history."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import ClassVar

from llmrec.config.drift import ExplanationTerm
from llmrec.drift.terms import BY_NAME
from llmrec.inference.score_units import UNIT_HEADS, NumberFormat, ScoreUnit
from llmrec.utils.html import format_html_table

AVERAGE_ITEM, NO_EVENT = "an item of average probability", "no single event"
SHOWN_EVENTS, SHOWN_TOKENS = 5, 8
DESCRIBED = {"use_attribute_docstrings": True}  # for the OpenAPI description of the HTTP service


@dataclass(frozen=True, slots=True)
class ExplanationPart:
    """One summand of an explanation."""

    __pydantic_config__: ClassVar[dict[str, bool]] = DESCRIBED

    term: ExplanationTerm
    """A drift term; `anyone`, the expectation without a history; or `base`, the change by the history."""
    event: int | None
    """Position in the explanation's `events`; None if the part belongs to no single event."""
    points: float
    """Summand of the explanation's `total`, in its unit."""
    exact: bool
    """True for a summand of the mixture itself, False for an attribution."""


@dataclass(frozen=True, slots=True)
class PastEvent:
    """An event of the history."""

    __pydantic_config__: ClassVar[dict[str, bool]] = DESCRIBED

    item: str
    """Id, or the text of an item outside the catalog."""
    label: str
    """Short name of the item."""
    time: int
    """Seconds since 1970."""
    points: float
    """Sum of the event's parts, over all terms."""


@dataclass(frozen=True, slots=True)
class TokenAttribution:
    """A token of the item's text and its attribution."""

    __pydantic_config__: ClassVar[dict[str, bool]] = DESCRIBED

    token: str
    """Token of the backbone's tokenizer."""
    value: float
    """Score that the token adds to the model below the drift head, compared with padding."""


@dataclass(frozen=True, slots=True)
class BreakdownRow:
    """A line of a breakdown."""

    label: str
    """Description of the summand; that of the last row is the total's."""
    points: float
    """Summand of the total, rounded as printed."""
    text: str
    """Summand as printed: percent of a chance, or log-odds."""
    color: str = ""
    """Color of the term in figures; empty for other rows."""


@dataclass(frozen=True, slots=True, repr=False)
class Explanation:
    """Parts that add up to an item's score; prints as its reasons, by term and by event."""

    __pydantic_config__: ClassVar[dict[str, bool]] = DESCRIBED

    item: str
    """Id, or the text of an item outside the catalog."""
    label: str
    """Short name of the item."""
    at: int
    """Query time in seconds since 1970."""
    score: float
    """Score of the item, as `Recommender.score` returns it."""
    unit: ScoreUnit
    """Unit of the score: a log-probability with a drift head, else a logit, whose differences are log-odds."""
    total: float
    """Sum of `start` and the points of all parts.

    With a drift head it is the item's chance of being next; without one it is the score.
    """
    start: float
    """Zero with a drift head; without one, the score of an item of average probability."""
    parts: tuple[ExplanationPart, ...]
    """Summands."""
    events: tuple[PastEvent, ...]
    """Last events of the history."""
    n_people: int
    """Live users who recently chose the item after that of the event with the strongest transition."""
    window_days: int
    """Days that count as recent for `n_people`."""
    sentence: str = ""
    """The total and the strongest reasons for it in words."""
    tokens: tuple[TokenAttribution, ...] = ()
    """Tokens of the item's text with their attributions, on request."""

    def term_points(self) -> dict[ExplanationTerm, float]:
        """Sum the points of each term.

        Returns:
            Points by term, which add up to `total` together with `start`.
        """
        sums: dict[ExplanationTerm, float] = {}
        for part in self.parts:
            sums[part.term] = sums.get(part.term, 0.0) + part.points
        return sums

    def rank_events(self) -> list[int]:
        """Rank the events by their points.

        Returns:
            Positions in `events`, those with the most points first.
        """
        return sorted(range(len(self.events)), key=lambda position: -self.events[position].points)

    @property
    def format(self) -> NumberFormat:
        """Format of the total and of the points."""
        return NumberFormat.from_total(self.total, self.unit)

    def by_term(self) -> list[BreakdownRow]:
        """Divide the total among terms, those with the most points first.

        Returns:
            Rows whose printed numbers add up to that of the last row, the total.
        """
        sums = self.term_points()
        terms = sorted(sums, key=lambda term: -sums[term])
        start, *points = self.format.round([self.start, *(sums[term] for term in terms)], self.total)
        rows = [
            BreakdownRow(BY_NAME[term].caption, value, self.format.format(value, signed=True), BY_NAME[term].color)
            for term, value in zip(terms, points, strict=True)
        ]
        return self._frame(start, rows)

    def by_event(self, n_shown: int = SHOWN_EVENTS) -> list[BreakdownRow]:
        """Divide the total among the events of the history, those with the most points first.

        Args:
            n_shown: Events to list; the others share a row, and so do the parts of no single event.

        Returns:
            Rows whose printed numbers add up to that of the last row, the total.
        """
        start, events, wholes = self.round_reasons()
        order = self.rank_events()
        summands = [(f"{self.events[place].label}  [{self.events[place].item}]", events[place]) for place in order]
        others = [points for _, points in summands[n_shown:]]
        summands = summands[:n_shown]
        if others:
            summands.append((f"{len(others):,} other event{'s' if len(others) > 1 else ''}", math.fsum(others)))
        summands.append((NO_EVENT, math.fsum(wholes.values())))
        rows = [BreakdownRow(label, points, self.format.format(points, signed=True)) for label, points in summands]
        return self._frame(start, rows)

    def round_reasons(self) -> tuple[float, list[float], dict[ExplanationTerm, float]]:
        """Round the points of each event and, by term, of the parts of no single event.

        Returns:
            Start, points by event and points by term, which add up to the total as printed.
        """
        wholes = dict[ExplanationTerm, float]()
        for part in self.parts:
            if part.event is None:
                wholes[part.term] = wholes.get(part.term, 0.0) + part.points
        points = [self.start, *(event.points for event in self.events), *wholes.values()]
        start, *rounded = self.format.round(points, self.total)
        n_events = len(self.events)
        return start, rounded[:n_events], dict(zip(wholes, rounded[n_events:], strict=True))

    def __repr__(self) -> str:
        lines = [self.label, self.sentence, "", "by term:", *_align(self.by_term())]
        if self.events:
            lines += ["", "by event:", *_align(self.by_event())]
        if self.tokens:
            strongest = sorted(self.tokens, key=lambda token: -abs(token.value))[:SHOWN_TOKENS]
            lines += ["", "words: " + ", ".join(f"{token.token} {token.value:+.2f}" for token in strongest)]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """Render the explanation for a notebook."""
        tables = {"by term": self.by_term()} | ({"by event": self.by_event()} if self.events else {})
        parts = [f"<b>{escape(self.label)}</b><p>{escape(self.sentence)}</p>"]
        for title, rows in tables.items():
            parts.append(
                format_html_table([["points", "reason"], *([row.text, row.label] for row in rows)], title=title)
            )
        return "".join(parts)

    def _frame(self, start: float, rows: list[BreakdownRow]) -> list[BreakdownRow]:
        """Put the start before rows, unless it is nothing, and the total after them."""
        first = [BreakdownRow(AVERAGE_ITEM, start, self.format.format(start))] if self.unit == "logit" else []
        return [*first, *rows, BreakdownRow(UNIT_HEADS[self.unit], self.total, self.format.format(self.total))]


def _align(rows: Sequence[BreakdownRow]) -> list[str]:
    width = max(len(row.text) for row in rows)
    return [f"{row.text:>{width}}  {row.label}" for row in rows]
