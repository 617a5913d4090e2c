"""Parts of an explanation: summands of an item's probability and score, by term and by event of the history."""

from __future__ import annotations

from dataclasses import dataclass

from llmrec.config.drift import ExplanationTerm


@dataclass(frozen=True, slots=True)
class ExplanationPart:
    """One summand of an explanation.

    Attributes:
        term: A drift term; `anyone`, what the model expects without a history; or `base`, what the history changes.
        event: Place in the explanation's `events`, or None for what no single event gives.
        chance: Of the item's probability.
        value: Of its score.
        exact: A summand of the mixture itself, not an attribution.
    """

    term: ExplanationTerm
    event: int | None
    chance: float
    value: float
    exact: bool


@dataclass(frozen=True, slots=True)
class PastEvent:
    """An event of the history.

    Attributes:
        item: Id, or the text of an item outside the catalog.
        label: Words for the item.
        time: Seconds.
        share: Of the probability, over all terms.
    """

    item: str
    label: str
    time: int
    share: float


@dataclass(frozen=True, slots=True)
class TokenAttribution:
    """A token of the item's text, and what it adds to the score of the model below compared with padding."""

    token: str
    value: float


@dataclass(frozen=True, slots=True)
class Explanation:
    """The parts that add up to an item's score.

    Attributes:
        item: Id, or the text of an item outside the catalog.
        label: Words for the item.
        at: Query time in seconds.
        score: `start` plus the values of the parts.
        start: Score of an item of average probability.
        chance: Sum of the parts' probabilities; the score is its logarithm, or, without a drift head, the logit of this
            share of the softmax over the catalog.
        parts: Summands.
        events: Last events of the history.
        n_people: Live users who chose the item after that of the strongest event in the last `lately_days` days.
        lately_days: Days.
        sentence: The strongest reasons in words.
        tokens: Of the item's text, on request.
    """

    item: str
    label: str
    at: int
    score: float
    start: float
    chance: float
    parts: tuple[ExplanationPart, ...]
    events: tuple[PastEvent, ...]
    n_people: int
    lately_days: int
    sentence: str
    tokens: tuple[TokenAttribution, ...] = ()

    def term_shares(self) -> dict[ExplanationTerm, float]:
        """Return the share of the probability that each term gives."""
        sums: dict[ExplanationTerm, float] = {}
        for part in self.parts:
            sums[part.term] = sums.get(part.term, 0.0) + part.chance / self.chance
        return sums

    def rank_events(self) -> list[int]:
        """Return the places of the events, those with the largest share first."""
        return sorted(range(len(self.events)), key=lambda position: -self.events[position].share)
