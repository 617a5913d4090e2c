"""Explanations as sentences: "40% because you moved from X to Y two weeks ago; 15% because ..."."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from llmrec.config.drift import ExplanationTerm
from llmrec.inference.explanations.explanation import ExplanationPart, PastEvent
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


def compose_sentence(
    parts: Sequence[ExplanationPart],
    events: Sequence[PastEvent],
    at: int,
    whole: Mapping[ExplanationTerm, str],
    people: tuple[int | None, int, int],
) -> str:
    """Compose the sentence of an explanation.

    Args:
        parts: Summands.
        events: Last events of the history.
        at: Query time in seconds.
        whole: Words after "because" for the parts of no single event, by term.
        people: Position of the event from which n people went to the item in the last d days, n, and d.

    Returns:
        At most `MAX_REASONS` reasons, the strongest first.
    """
    chance = sum(part.chance for part in parts)
    reasons = [
        (event.share, _describe_transition(events, position, at) + _describe_people(position, people))
        for position, event in enumerate(events)
    ]
    for term, words in whole.items():
        share = sum(part.chance for part in parts if part.term == term and part.event is None) / chance
        reasons.append((share, f"because {words}"))
    strongest = sorted(reasons, key=lambda reason: -reason[0])[:MAX_REASONS]
    found = [f"{share:.0%} {words}" for share, words in strongest if share >= MIN_SHARE]
    return "; ".join(found) or "nothing speaks for it in particular"


def _describe_transition(events: Sequence[PastEvent], position: int, at: int) -> str:
    here = events[position]
    when = format_age(max(at - here.time, 0))
    before = next((event for event in reversed(events[:position]) if event.item != here.item), None)
    if before is None:
        return f"because you took {here.label} {when}"
    return f"because you moved from {before.label} to {here.label} {when}"


def _describe_people(position: int, people: tuple[int | None, int, int]) -> str:
    event, n_people, days = people
    if event != position or not n_people:
        return ""
    return (
        f" ({n_people:,} {'person' if n_people == 1 else 'people'} went on from there to this in the last {days} days)"
    )
