"""Explanations: summands of an item's probability and score, by term and by event of the history."""

from __future__ import annotations

from dataclasses import dataclass

from llmrec.config.drift import ExplanationTerm


@dataclass(frozen=True, slots=True)
class ExplanationPart:
    """One summand of an explanation."""

    term: ExplanationTerm
    """A drift term; `anyone`, the expectation without a history; or `base`, the change by the history."""
    event: int | None
    """Position in the explanation's `events`; None if the part belongs to no single event."""
    chance: float
    """Summand of the item's probability."""
    value: float
    """Summand of the item's score."""
    exact: bool
    """True for a summand of the mixture itself, False for an attribution."""


@dataclass(frozen=True, slots=True)
class PastEvent:
    """An event of the history."""

    item: str
    """Id, or the text of an item outside the catalog."""
    label: str
    """Short name of the item."""
    time: int
    """Seconds since 1970."""
    share: float
    """Share of the probability, over all terms."""


@dataclass(frozen=True, slots=True)
class TokenAttribution:
    """A token of the item's text and its attribution."""

    token: str
    """Token of the backbone's tokenizer."""
    value: float
    """Score that the token adds to the model below the drift head, compared with padding."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """Parts that add up to an item's score."""

    item: str
    """Id, or the text of an item outside the catalog."""
    label: str
    """Short name of the item."""
    at: int
    """Query time in seconds since 1970."""
    score: float
    """Sum of `start` and the values of the parts."""
    start: float
    """Score of an item of average probability."""
    chance: float
    """Sum of the parts' probabilities.

    The score is its logarithm, or, without a drift head, the logit of this share of the softmax over the catalog.
    """
    parts: tuple[ExplanationPart, ...]
    """Summands."""
    events: tuple[PastEvent, ...]
    """Last events of the history."""
    n_people: int
    """Live users who recently chose the item after that of the event with the strongest transition."""
    lately_days: int
    """Days that count as recent for `n_people`."""
    sentence: str
    """The strongest reasons in words."""
    tokens: tuple[TokenAttribution, ...] = ()
    """Tokens of the item's text with their attributions, on request."""

    def term_shares(self) -> dict[ExplanationTerm, float]:
        """Compute the share of the probability that each term gives.

        Returns:
            Shares by term, which add up to 1.
        """
        sums: dict[ExplanationTerm, float] = {}
        for part in self.parts:
            sums[part.term] = sums.get(part.term, 0.0) + part.chance / self.chance
        return sums

    def rank_events(self) -> list[int]:
        """Rank the events by their share.

        Returns:
            Positions in `events`, the largest share first.
        """
        return sorted(range(len(self.events)), key=lambda position: -self.events[position].share)
