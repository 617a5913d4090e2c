"""What a user will want at a moment: the model's answer in the light of the day, and where interest moves from there.

    p(i|u,t) = a * softmax_i(s * score(u, i) + sum_h eta_h log(c_h,i(t) + eps))                    environment
             + b * sum_j w_uj(t) * (C_t[j,i] + kappa p_text(i|j)) / (sum_i C_t[j,i] + kappa)       transitions
             + c * sum_k s_uk(t) * softmax_i(w_k . x_i + sum_h theta_h log(c_h,i(t) + eps))        chain

with w_uj of `interest`, c_h of `environment`, C of `transitions`, s and x of `latent`, and (a, b, c) = softmax(0, v_b .
z, v_c . z) by what the history is like and how much is known of its last item, z. It is a distribution. With c = 0, b
fixed, eta = 0, s = 1 and kappa = 0 the rest is one step of the founding chain.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor, nn

from llmrec.config.drift import DriftConfig
from llmrec.drift.terms.chain import LatentChain
from llmrec.drift.terms.interest import EventWeights
from llmrec.utils.arrays import EPS

START_KAPPA = 2.0
SMALLEST_CHANCE = 1e-30  # whose logarithm is still a number
# Of z, what the history is like: 1, log1p days since the last event, log1p events, same moment, log1p days from first
# to last event, and log1p days since the end of what the model below was trained on: the staler, the less it is asked.
N_CONTEXT = 6


class RecentEvents(NamedTuple):
    """Last T events of B histories, and what the gate looks at."""

    item: Tensor  # (B, T) catalog rows
    mask: Tensor  # (B, T) bool
    age_days: Tensor  # (B, T) before the query
    steps_back: Tensor  # (B, T) 0 for the newest
    context: Tensor  # (B, N_CONTEXT)


class TransitionRows(NamedTuple):
    """Transitions: tables (N, N) and row sums (N,) of C, both still to be faded to the moment; and p_text (N, N)."""

    tables: list[sparse.csr_array]
    row_sums: NDArray[np.float64]
    fading: float
    text: sparse.csr_array

    def row_sum(self, recent: RecentEvents) -> Tensor:
        """(B, T) sum_i C_t[j,i] of each event's item, as of the moment; fp64."""
        return torch.from_numpy(self.row_sums)[recent.item] * self.fading


class DriftHead(nn.Module):
    """The few weights of the mixture: s, eta, lambda and gamma of `interest`, kappa, theta, v; and its terms.

    shift: (2,) added to v_b . z and v_c . z after the fit, by validation NDCG: likelihood undervalues the sparse second
    part. chain: with weights of its own, fitted before.
    """

    shift: Tensor

    def __init__(self, config: DriftConfig, chain: LatentChain | None = None) -> None:
        super().__init__()
        self.terms = frozenset(config.terms)
        self.log_sharpness = nn.Parameter(torch.zeros(()))
        self.eta = nn.Parameter(torch.zeros(len(config.half_lives_days)))
        self.theta = nn.Parameter(torch.zeros(len(config.half_lives_days)))
        self.theta.data[-1] = 1.0  # the longest: as the chain was fitted
        self.interest = EventWeights()
        self.log_kappa = nn.Parameter(torch.tensor(START_KAPPA).log())
        self.gate = nn.Parameter(torch.zeros(2, N_CONTEXT + 1))
        self.register_buffer("shift", torch.zeros(2))
        self.chain = chain

    def base_logits(self, scores: Tensor, counts: Tensor) -> Tensor:
        """(B, C) scores and (H, C) counts -> (B, C) logits of the first softmax."""
        logits = scores * self.log_sharpness.exp()
        return logits + self.eta @ torch.log(counts + EPS) if "environment" in self.terms else logits

    def state_logits(self, emission: Tensor, counts: Tensor) -> Tensor:
        """(K, C) w_k . x_i and (H, C) counts -> (K, C) logits of the third part's softmax."""
        return emission + self.theta @ torch.log(counts + EPS) if "environment" in self.terms else emission

    def log_mixture_shares(self, recent: RecentEvents, row_sum: Tensor, shift: Tensor | None = None) -> Tensor:
        """(B, 3) log of a, b, c; nothing is left to transitions without a history.

        row_sum: (B, T) of `TransitionRows`; what counts is how many pairs are known of the newest item. shift: (2,)
            instead of its own.
        """
        odds = self.gate[:, 0].expand(len(recent.item), 2)
        if "gate" in self.terms:
            known = (row_sum * (recent.mask & (recent.steps_back == 0))).sum(1, keepdim=True).float()  # (B, 1)
            odds = torch.cat([recent.context, known.log1p()], dim=1) @ self.gate.T
        odds = odds + (self.shift if shift is None else shift)
        off = torch.ones_like(odds, dtype=torch.bool)
        if "transitions" in self.terms:
            off[:, 0] = ~recent.mask.any(1)
        if "chain" in self.terms:
            off[:, 1] = False
        return torch.cat([torch.zeros(len(odds), 1), odds.masked_fill(off, -torch.inf)], dim=1).log_softmax(1)

    def transition_probability(self, recent: RecentEvents, count: Tensor, row_sum: Tensor, text: Tensor) -> Tensor:
        """(B,) chance of one item each by transitions, from what the history's rows (B, T) say of that item."""
        weight, kappa = self.event_weights(recent), self.log_kappa.exp()
        return (weight * (count + kappa * text) / (row_sum + kappa)).sum(1)

    def transition_probabilities(self, recent: RecentEvents, transitions: TransitionRows) -> Tensor:
        """(B, N) chance of every item by transitions, by products of sparse matrices."""
        weight, kappa = self.event_weights(recent).double(), self.log_kappa.exp().double()
        scaled = weight / (transitions.row_sum(recent) + kappa)
        moved: Any = _build_rows(recent.item, kappa * scaled, len(transitions.row_sums)) @ transitions.text
        counted = _build_rows(recent.item, transitions.fading * scaled, len(transitions.row_sums))
        for table in transitions.tables:
            moved = moved + counted @ table
        return torch.from_numpy(moved.astype(np.float32).toarray())

    def mix_log_probabilities(
        self, log_shares: Tensor, base: Tensor, moved: Tensor | float, chained: Tensor | float
    ) -> Tensor:
        """Log of the mixture. log_shares: (B, 3). base: log chances; moved, chained: chances; (B,) or (B, C) each."""
        own, onward, latent = (share.view(-1, *[1] * (base.ndim - 1)) for share in log_shares.unbind(1))
        # Chances far below fp32's range still have a logarithm in `own`, which keeps its gradient.
        others = onward.exp() * moved + latent.exp() * chained
        return torch.logaddexp(own + base, torch.as_tensor(others).clamp(min=SMALLEST_CHANCE).log())

    def describe(self) -> dict[str, Any]:
        """What was learned, in words and units for a report."""
        with torch.no_grad():
            learned: dict[str, Any] = {
                "sharpness": round(float(self.log_sharpness.exp()), 3),
                "eta": [round(eta, 3) for eta in self.eta.tolist()],
                "interest_half_life_days": round(math.log(2) / float(self.interest.log_forget.exp()), 1),
                "step_back": round(float(torch.sigmoid(self.interest.step_back)), 3),
                "kappa": round(float(self.log_kappa.exp()), 3),
                "gate": [[round(weight, 3) for weight in row] for row in self.gate.tolist()],
                "shift": self.shift.tolist(),
            }
            if self.chain is not None:
                learned |= {
                    "theta": [round(theta, 3) for theta in self.theta.tolist()],
                    "chain_half_lives_days": [round(days, 1) for days in self.chain.chain.half_life_days.tolist()],
                    "chain_gain": [round(gain, 3) for gain in torch.sigmoid(self.chain.gain).tolist()],
                    "chain_fast_share": round(float(torch.sigmoid(self.chain.blend)), 3),
                }
            return learned

    def event_weights(self, recent: RecentEvents) -> Tensor:
        """(B, T) w_uj of each event: how much it says of where the user goes on to."""
        if "interest" not in self.terms:
            return recent.mask.float() / recent.mask.sum(1, keepdim=True).clamp(min=1)
        weight: Tensor = self.interest(recent.age_days, recent.steps_back, recent.mask)
        return weight


def _build_rows(item: Tensor, weight: Tensor, n_items: int) -> sparse.csr_array:
    """(B, N) sparse rows with `weight` (B, T) at the columns `item` (B, T)."""
    size, steps = item.shape
    ends = np.arange(0, size * steps + 1, steps)
    return sparse.csr_array((weight.flatten().numpy(), item.flatten().numpy(), ends), shape=(size, n_items))
