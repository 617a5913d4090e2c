"""An explanation as a sentence for people: "40% because you moved from X to Y two weeks ago; 15% because ..."."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from llmrec.inference.explanations.explanation import ExplanationPart, PastEvent
from llmrec.utils.arrays import EPS
from llmrec.utils.units import SECONDS_PER_DAY

MAX_REASONS, MIN_SHARE = 3, 0.05
NUMBERS = "no one two three four five six seven eight nine ten eleven twelve".split()
POPULARITY_PHRASES = (  # up to so many days, in words
    (10.0, "is popular this week"),
    (45.0, "is popular this month"),
    (200.0, "has been popular for some months"),
    (800.0, "has been popular this year"),
)
ALWAYS = "is popular at all times"
UNITS = (("year", 365.25), ("month", 30.44), ("week", 7.0), ("day", 1.0))


def format_age(seconds: int) -> str:
    """A time before now.

    >>> [ago(60), ago(86400), ago(15 * 86400), ago(400 * 86400), ago(20 * 7 * 86400)]
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


def describe_popularity(eta: Tensor, counts: Tensor, own: Tensor, half_lives_days: Sequence[float]) -> str:
    """What an item's popularity is like: by the half-life at which it is most above the others.

    eta: (H,). counts: (H, N) of all items. own: (H,) of the item.
    """
    above = eta * ((own + EPS).log() - (counts + EPS).log().mean(1))
    days = half_lives_days[int(np.argmax(above.numpy()))]
    return next((words for most, words in POPULARITY_PHRASES if days <= most), ALWAYS)


def compose_sentence(
    parts: Sequence[ExplanationPart],
    events: Sequence[PastEvent],
    at: int,
    popular: str,
    people: tuple[int | None, int, int],
) -> str:
    """popular: `describe_popularity`. people: event from which `n` people went on to the item in the last `d` days."""
    chance = sum(part.chance for part in parts)
    reasons = [
        (event.share, _describe_transition(events, position, at) + _describe_people(position, people))
        for position, event in enumerate(events)
    ]
    whole = {"anyone": "it suits most people", "environment": f"it {popular}", "base": "of your history as a whole",
             "chain": "of what you liked before" if events else "of what newcomers like"}  # fmt: skip
    for term, words in whole.items():
        share = sum(part.chance for part in parts if part.term == term and part.event is None) / chance
        reasons.append((share, f"because {words}"))
    strongest = sorted(reasons, key=lambda reason: -reason[0])[:MAX_REASONS]
    told = [f"{share:.0%} {words}" for share, words in strongest if share >= MIN_SHARE]
    return "; ".join(told) or "nothing speaks for it in particular"


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
