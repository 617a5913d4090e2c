"""What an explanation is made of: summands of an item's chance and score, by term and by event of the history."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ExplanationTerm = Literal["anyone", "base", "environment", "transitions", "chain"]


@dataclass(frozen=True, slots=True)
class ExplanationPart:
    """One summand of an explanation.

    term: `anyone`, what the model expects of users it knows nothing of; `base`, what it makes of the history;
    `environment`, what is popular now; `transitions`, where people went on to; `chain`, latent interest. event: place
    in the explanation's `events`, or None for what no single one of them says. chance: of the item's chance. value: of
    its score. exact: a summand of the mixture itself, and not the share of one that was attributed.
    """

    term: ExplanationTerm
    event: int | None
    chance: float
    value: float
    exact: bool


@dataclass(frozen=True, slots=True)
class PastEvent:
    """An event of the history, the item by its id or, in no catalog, its text. share: of the chance, over all terms."""

    item: str
    label: str
    time: int
    share: float


@dataclass(frozen=True, slots=True)
class TokenAttribution:
    """A token of the item's text, and what it adds to the score of the model below, against padding in its place."""

    token: str
    value: float


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why an item has its score.

    chance: the sum of the parts' chances; of a mixture its logarithm is the score, else it is the item's share of the
    softmax over the catalog. score: `start`, what an item of average chance has, and the parts' values. at: seconds.
    n_people: who went on from the event that says most by transitions to the item in the last `lately_days` days, among
    the live users. tokens: on request.
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
        """How much of the chance each term gives."""
        sums: dict[ExplanationTerm, float] = {}
        for part in self.parts:
            sums[part.term] = sums.get(part.term, 0.0) + part.chance / self.chance
        return sums

    def rank_events(self) -> list[int]:
        """Places of the events, those that say most for the item first."""
        return sorted(range(len(self.events)), key=lambda position: -self.events[position].share)
