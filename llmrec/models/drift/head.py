"""What a user will want at a moment: the model's own answer in the light of the day, mixed with where interest moves.

    p(i|u,t) = (1 - b) * softmax_i(s * score(u, i) + sum_h eta_h log(c_h,i(t) + eps))                     environment
             +    b    * sum_j w_uj(t) * (C_t[j,i] + kappa p_text(i|j)) / (sum_i C_t[j,i] + kappa)         transitions

with w of `interest`, c of `environment`, C of `transitions`, and b = sigmoid(v . x) by what the history is like, x.
It is a distribution. With b fixed, eta = 0, s = 1 and kappa = 0 the second part is one step of the founding chain.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor, nn
from torch.nn import functional

from llmrec.config import DriftConfig
from llmrec.models.drift.interest import Interest

EPS = 0.1  # events; what an item counts that nobody touched
START_KAPPA = 2.0
SMALLEST_CHANCE = 1e-30  # whose logarithm is still a number
N_CONTEXT = 5  # of x: 1, log1p days since the last event, log1p events, same moment, log1p days from first to last


class Recent(NamedTuple):
    """Last T events of B histories, and what the gate looks at."""

    item: Tensor  # (B, T) catalog rows
    mask: Tensor  # (B, T) bool
    age_days: Tensor  # (B, T) before the query
    steps_back: Tensor  # (B, T) 0 for the newest
    context: Tensor  # (B, N_CONTEXT)


class Moves(NamedTuple):
    """Transitions: tables (N, N) and row sums (N,) of C, both still to be faded to the moment; and p_text (N, N)."""

    tables: list[sparse.csr_array]
    row_sums: NDArray[np.float64]
    fading: float
    text: sparse.csr_array


class DriftHead(nn.Module):
    """The few weights of the mixture: s, eta, lambda and gamma of `interest`, kappa, v; and which terms are on.

    shift: () added to v . x after the fit, by validation NDCG: likelihood undervalues the sparse second part.
    """

    shift: Tensor

    def __init__(self, config: DriftConfig) -> None:
        super().__init__()
        self.terms, self.timed_gate = config.terms, config.timed_gate
        self.log_sharpness = nn.Parameter(torch.zeros(()))
        self.eta = nn.Parameter(torch.zeros(len(config.half_lives_days)))
        self.interest = Interest()
        self.log_kappa = nn.Parameter(torch.tensor(START_KAPPA).log())
        self.gate = nn.Parameter(torch.zeros(N_CONTEXT))
        self.register_buffer("shift", torch.zeros(()))

    def base(self, scores: Tensor, counts: Tensor) -> Tensor:
        """(B, N) scores and (H, N) counts -> (B, N) log of the first softmax."""
        logits = scores * self.log_sharpness.exp()
        if "environment" in self.terms:
            logits = logits + self.eta @ torch.log(counts + EPS)
        return logits.log_softmax(1)

    def odds(self, recent: Recent) -> Tensor:
        """(B,) v . x, the log-odds of transitions; -inf without a history."""
        if "transitions" not in self.terms:
            return torch.full((len(recent.item),), -torch.inf)
        odds = recent.context @ self.gate if self.timed_gate else self.gate[0].expand(len(recent.item))
        return (odds + self.shift).masked_fill(~recent.mask.any(1), -torch.inf)

    def moved_to(self, recent: Recent, count: Tensor, row_sum: Tensor, text: Tensor) -> Tensor:
        """(B,) chance of one item each by transitions, from what the history's rows (B, T) say of that item."""
        weight, kappa = self._weight(recent), self.log_kappa.exp()
        return (weight * (count + kappa * text) / (row_sum + kappa)).sum(1)

    def moved(self, recent: Recent, moves: Moves) -> Tensor:
        """(B, N) chance of every item by transitions, by products of sparse matrices."""
        weight, kappa = self._weight(recent).double(), self.log_kappa.exp().double()
        row_sum = torch.from_numpy(moves.row_sums)[recent.item] * moves.fading  # (B, T)
        scaled = weight / (row_sum + kappa)
        moved: Any = _rows(recent.item, kappa * scaled, len(moves.row_sums)) @ moves.text
        counted = _rows(recent.item, moves.fading * scaled, len(moves.row_sums))
        for table in moves.tables:
            moved = moved + counted @ table
        return torch.from_numpy(moved.toarray()).float()

    def mix(self, base: Tensor, moved: Tensor, odds: Tensor) -> Tensor:
        """Log of the mixture. base: log chances, moved: chances, odds: log-odds of the second; all broadcastable."""
        onward = functional.logsigmoid(odds) + moved.clamp(min=SMALLEST_CHANCE).log()
        return torch.logaddexp(functional.logsigmoid(-odds) + base, onward)

    def summary(self) -> dict[str, Any]:
        """What was learned, in words and units for a report."""
        with torch.no_grad():
            return {
                "sharpness": round(float(self.log_sharpness.exp()), 3),
                "eta": [round(eta, 3) for eta in self.eta.tolist()],
                "interest_half_life_days": round(math.log(2) / float(self.interest.log_forget.exp()), 1),
                "step_back": round(float(torch.sigmoid(self.interest.step_back)), 3),
                "kappa": round(float(self.log_kappa.exp()), 3),
                "gate": [round(weight, 3) for weight in self.gate.tolist()],
                "shift": float(self.shift),
            }

    def _weight(self, recent: Recent) -> Tensor:
        weight: Tensor = self.interest(recent.age_days, recent.steps_back, recent.mask)
        return weight


def _rows(item: Tensor, weight: Tensor, n_items: int) -> sparse.csr_array:
    """(B, N) sparse rows with `weight` (B, T) at the columns `item` (B, T)."""
    size, steps = item.shape
    ends = np.arange(0, size * steps + 1, steps)
    return sparse.csr_array((weight.flatten().numpy(), item.flatten().numpy(), ends), shape=(size, n_items))
