"""Explanations: summands of an item's probability and score, by term and by event of the history."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from llmrec.config.drift import ExplanationTerm
from llmrec.inference.score_units import ScoreUnit

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
class Explanation:
    """Parts that add up to an item's score."""

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
