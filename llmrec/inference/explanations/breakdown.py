"""Breakdowns of explanations: rows of numbers that add up as they are printed."""

from __future__ import annotations

import math
from dataclasses import dataclass

from llmrec.config.drift import ExplanationTerm
from llmrec.drift.terms import BY_NAME
from llmrec.inference.explanations.explanation import Explanation
from llmrec.inference.score_units import UNIT_HEADS, NumberFormat

AVERAGE_ITEM, NO_EVENT = "an item of average probability", "no single event"
SHOWN_EVENTS = 5


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


def break_down_by_term(found: Explanation) -> list[BreakdownRow]:
    """Divide an explanation's total among terms, those with the most points first.

    Args:
        found: The explanation.

    Returns:
        Rows whose printed numbers add up to that of the last row, the total.
    """
    style, sums = get_format(found), found.term_points()
    terms = sorted(sums, key=lambda term: -sums[term])
    start, *points = style.round([found.start, *(sums[term] for term in terms)], found.total)
    rows = [
        BreakdownRow(BY_NAME[term].caption, value, style.format(value, signed=True), BY_NAME[term].color)
        for term, value in zip(terms, points, strict=True)
    ]
    return _frame(found, start, rows)


def break_down_by_event(found: Explanation, n_shown: int = SHOWN_EVENTS) -> list[BreakdownRow]:
    """Divide an explanation's total among the events of the history, those with the most points first.

    Args:
        found: The explanation.
        n_shown: Events to list; the others share a row, and so do the parts of no single event.

    Returns:
        Rows whose printed numbers add up to that of the last row, the total.
    """
    style, (start, events, wholes) = get_format(found), round_reasons(found)
    order = found.rank_events()
    summands = [(f"{found.events[place].label}  [{found.events[place].item}]", events[place]) for place in order]
    others = [points for _, points in summands[n_shown:]]
    summands = summands[:n_shown]
    if others:
        summands.append((f"{len(others):,} other events", math.fsum(others)))
    summands.append((NO_EVENT, math.fsum(wholes.values())))
    rows = [BreakdownRow(label, points, style.format(points, signed=True)) for label, points in summands]
    return _frame(found, start, rows)


def round_reasons(found: Explanation) -> tuple[float, list[float], dict[ExplanationTerm, float]]:
    """Round the points of each event and, by term, of the parts of no single event.

    Args:
        found: The explanation.

    Returns:
        Start, points by event and points by term, which add up to the total as printed.
    """
    wholes = dict[ExplanationTerm, float]()
    for part in found.parts:
        if part.event is None:
            wholes[part.term] = wholes.get(part.term, 0.0) + part.points
    points = [found.start, *(event.points for event in found.events), *wholes.values()]
    start, *rounded = get_format(found).round(points, found.total)
    n_events = len(found.events)
    return start, rounded[:n_events], dict(zip(wholes, rounded[n_events:], strict=True))


def get_format(found: Explanation) -> NumberFormat:
    """Return the format of an explanation's numbers.

    Args:
        found: The explanation.

    Returns:
        The format, by the total.
    """
    return NumberFormat.from_total(found.total, found.unit)


def _frame(found: Explanation, start: float, rows: list[BreakdownRow]) -> list[BreakdownRow]:
    """Put the start before rows, unless it is nothing, and the total after them."""
    style = get_format(found)
    first = [] if found.unit == "log_probability" else [BreakdownRow(AVERAGE_ITEM, start, style.format(start))]
    return [*first, *rows, BreakdownRow(UNIT_HEADS[found.unit], found.total, style.format(found.total))]
