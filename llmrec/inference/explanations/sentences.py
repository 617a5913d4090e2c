"""Explanations as sentences: "3.2% chance of being next: +1.9% because you moved from X to Y two weeks ago; ..."."""

from __future__ import annotations

import math
from collections.abc import Mapping

from llmrec.config.drift import ExplanationTerm
from llmrec.inference.explanations.explanation import Explanation
from llmrec.utils.units import SECONDS_PER_DAY

MAX_REASONS, MIN_SHARE = 3, 0.05
NUMBERS = "no one two three four five six seven eight nine ten eleven twelve".split()
UNITS = (("year", 365.25), ("month", 30.44), ("week", 7.0), ("day", 1.0))


def format_age(seconds: int) -> str:
    """Format the time since an event.

    Args:
        seconds: Seconds since the event, at least 0.

    Returns:
        The age in words.

    Example:
        >>> [format_age(days * 86400) for days in (0.001, 1, 15, 400, 140)]
        ['just now', 'yesterday', 'two weeks ago', 'a year ago', 'five months ago']
    """
    days = seconds / SECONDS_PER_DAY
    if days < 1 / 24:
        return "just now"
    if days < 1:
        return "today"
    if days < 2:
        return "yesterday"
    unit, length = next((name, length) for name, length in UNITS if days >= length * (1 if name == "day" else 0.95))
    count = round(days / length)
    if count == 1:
        return f"a {unit} ago"
    return f"{NUMBERS[count] if count < len(NUMBERS) else f'{count:,}'} {unit}s ago"


def compose_sentence(found: Explanation, whole: Mapping[ExplanationTerm, str], *, moved_from: int | None = None) -> str:
    """Compose the sentence of an explanation: its total, and the strongest reasons for it.

    Args:
        found: The explanation; its sentence is not read.
        whole: Words after "because" for the parts of no single event, by term.
        moved_from: Position of the event with the strongest transition.

    Returns:
        At most `MAX_REASONS` reasons, the strongest first, with the numbers that breakdowns print.
    """
    start, events, wholes = found.round_reasons()
    reasons = [
        (points, f"because {_describe_event(found, position)}{_describe_people(found, moved=position == moved_from)}")
        for position, points in enumerate(events)
    ]
    reasons += [(wholes[term], f"because {words}") for term, words in whole.items()]
    least = MIN_SHARE * math.fsum(abs(points) for points, _ in reasons)
    strongest = sorted(reasons, key=lambda reason: -reason[0])[:MAX_REASONS]
    style = found.format
    parts = [f"{style.format(points, signed=True)} {words}" for points, words in strongest if points > least]
    return f"{_describe_total(found, start)}: {'; '.join(parts) or 'nothing speaks for it in particular'}"


def _describe_total(found: Explanation, start: float) -> str:
    style = found.format
    if found.unit == "log_probability":
        return f"{style.format(found.total)} chance of being next"
    above = found.total - start
    return f"{style.format(abs(above))} log-odds {'above' if above >= 0 else 'below'} an average item"


def _describe_event(found: Explanation, position: int) -> str:
    here = found.events[position]
    when = format_age(max(found.at - here.time, 0))
    before = next((event for event in reversed(found.events[:position]) if event.item != here.item), None)
    if before is None:
        return f"you took {here.label} {when}"
    return f"you moved from {before.label} to {here.label} {when}"


def _describe_people(found: Explanation, *, moved: bool) -> str:
    if not moved or not found.n_people:
        return ""
    people = "1 person" if found.n_people == 1 else f"{found.n_people:,} people"
    return f" ({people} went on from there to this in the last {found.window_days} days)"
