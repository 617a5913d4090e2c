"""Interest term: weights of recent events, proportional to exp(-lambda * age) * gamma^(steps back)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from llmrec.config.drift import DriftConfig, TermName
from llmrec.drift.terms.protocol import DriftTerm
from llmrec.drift.terms.term_inputs import Head
from llmrec.utils.text import format_duration

NAME: TermName = "interest"
FORGET_PER_DAY, STEP_BACK = 1 / 60, 0.8  # initial lambda and gamma


class EventWeights(nn.Module):
    """Weights of the events of a history, with lambda and gamma learned."""

    def __init__(self) -> None:
        super().__init__()
        self.log_forget = nn.Parameter(torch.tensor(FORGET_PER_DAY).log())
        self.step_back = nn.Parameter(torch.logit(torch.tensor(STEP_BACK)))

    def forward(self, age_days: Tensor, steps_back: Tensor, mask: Tensor) -> Tensor:
        """Compute weights that sum to one, or are all 0 without a history.

        Args:
            age_days: Age of each event at the query time, (B, T).
            steps_back: Events after it, (B, T).
            mask: (B, T) bool.

        Returns:
            Weights, (B, T).

        >>> weights = EventWeights()(torch.tensor([[60.0, 0.0, 0.0]]), torch.tensor([[1.0, 0.0, 0.0]]),
        ...                          torch.tensor([[True, True, False]]))
        >>> [round(w, 3) for w in weights[0].tolist()]  # exp(-1) * .8 against 1
        [0.227, 0.773, 0.0]
        """
        forget = -self.log_forget.exp() * age_days + steps_back * nn.functional.logsigmoid(self.step_back)
        forget = forget.masked_fill(~mask, -torch.inf)
        nearest = forget.amax(1, keepdim=True).clamp(min=torch.finfo(forget.dtype).min)
        weight = (forget - nearest).exp()
        normalized: Tensor = weight / weight.sum(1, keepdim=True).clamp(min=1e-30)
        return normalized


class InterestTerm(DriftTerm):
    """Weights of recent events; without this term all events of a history weigh the same."""

    optional = False

    def make_weights(self, config: DriftConfig) -> EventWeights:
        """Return the weights of events."""
        return EventWeights()

    def describe(self, head: Head) -> dict[str, Any]:
        """Return lambda as a half-life, and gamma."""
        weights = head.get_submodule(NAME)
        return {
            "interest_half_life_days": round(math.log(2) / float(weights.log_forget.exp()), 1),
            "step_back": round(float(torch.sigmoid(weights.step_back)), 3),
        }

    def format_learned(self, learned: Mapping[str, Any]) -> str:
        """Format how fast the weight of an event falls."""
        half_life = format_duration(learned["interest_half_life_days"])
        return (
            f"What an event says of its user's next one halves in {half_life}, and "
            f"falls to {learned['step_back']:.2f} with each event after it."
        )


def compute_event_weights(head: Head, age_days: Tensor, steps_back: Tensor, mask: Tensor) -> Tensor:
    """Compute the weights of events: equal ones where the head lacks this term.

    Args:
        head: Fitted weights.
        age_days: Age of each event at the query time, (B, T).
        steps_back: Events after it, (B, T).
        mask: (B, T) bool.

    Returns:
        Weights, (B, T).
    """
    if NAME not in head.terms:
        return mask.float() / mask.sum(1, keepdim=True).clamp(min=1)
    weight: Tensor = head.get_submodule(NAME)(age_days, steps_back, mask)
    return weight
