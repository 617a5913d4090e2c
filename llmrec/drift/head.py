"""The drift head: few weights that mix the model's answer with what moves over time.

    p(i|u,t) = a * softmax_i(s * score(u, i) + logits of `environment`) + b * `transitions` + c * `chain`

with the shares (a, b, c) = softmax(0, v_b . z, v_c . z) by the features z of the history and the pairs known of its
last item, and more shares where the head has more parts. It is a distribution. With c = 0, b fixed, eta = 0, s = 1 and
kappa = 0 it is one step of `markov_update`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from llmrec.config.drift import DriftConfig, ExplanationTerm, TermName
from llmrec.drift.terms import BY_NAME, PARTS, SWITCHES, gate
from llmrec.drift.terms.base import BASE
from llmrec.drift.terms.gate import N_CONTEXT
from llmrec.drift.terms.interest import EventWeights, compute_event_weights
from llmrec.drift.terms.latent_chain import LatentChain
from llmrec.drift.terms.protocol import DriftTerm
from llmrec.drift.terms.term_inputs import RecentEvents

START_KAPPA = 2.0
MIN_PROBABILITY = 1e-30  # its logarithm is still finite


class DriftHead(nn.Module):
    """Weights of the mixture and of its terms.

    Attributes:
        terms: Names of the terms that are on.
        parts: Parts with a row of the gate, the base first; those that are off have no share.
        chain: Weights of its own, fitted before.
    """

    interest: EventWeights
    """Weights of recent events."""
    shift: Tensor
    """Added after the fit to the log-odds of all parts but the base, by validation NDCG, (P - 1,).

    Likelihood undervalues sparse parts.
    """

    def __init__(self, config: DriftConfig, chain: LatentChain | None = None) -> None:
        super().__init__()
        self.terms: frozenset[TermName] = frozenset(config.terms)
        self.parts = tuple(part for part in PARTS if part.name in self.terms or not part.implementation.optional)
        self.log_sharpness = nn.Parameter(torch.zeros(()))
        self.eta = nn.Parameter(torch.zeros(len(config.half_lives_days)))
        self.theta = nn.Parameter(torch.zeros(len(config.half_lives_days)))
        self.theta.data[-1] = 1.0  # the longest half-life: as the chain was fitted
        for name, term in self.iterate_terms():
            if (weights := term.make_weights(config)) is not None:
                self.add_module(name, weights)
        self.log_kappa = nn.Parameter(torch.tensor(START_KAPPA).log())
        self.gate = nn.Parameter(torch.zeros(len(self.parts) - 1, N_CONTEXT + 1))
        self.register_buffer("shift", torch.zeros(len(self.parts) - 1))
        self.chain = chain

    def iterate_terms(self) -> Iterator[tuple[TermName, DriftTerm]]:
        """Iterate over the terms that are on, and over those that every head has weights of.

        Yields:
            Name and term.
        """
        yield from ((name, term) for name, term in SWITCHES.items() if name in self.terms or not term.optional)

    def base_logits(self, scores: Tensor, views: Mapping[TermName, Any]) -> Tensor:
        """Compute the logits of the base.

        Args:
            scores: Of the model below, (B, C).
            views: View of each logit term for the same C items.

        Returns:
            Logits, (B, C).
        """
        return deque(self.iterate_base_logits(scores, views), maxlen=1)[0][1]

    def iterate_base_logits(
        self, scores: Tensor, views: Mapping[TermName, Any]
    ) -> Iterator[tuple[ExplanationTerm, Tensor]]:
        """Iterate over the base and the logit terms that are on.

        Args:
            scores: Of the model below, (B, C).
            views: View of each logit term for the same C items.

        Yields:
            Name, and the logits (B, C) with this term and those before it.
        """
        logits = scores * self.log_sharpness.exp()
        yield BASE, logits
        for name, term in SWITCHES.items():
            if BY_NAME[name].role == "logit" and name in self.terms:
                logits = logits + term.logits(self, views[name])
                yield name, logits

    def log_mixture_shares(self, recent: RecentEvents, known: Tensor | None, *, shift: Tensor | None = None) -> Tensor:
        """Compute the log shares of the parts; a part that is off or has no answer gets none.

        Args:
            recent: Last T events of B histories.
            known: Pairs known of each event's item, (B, T); read by the gate only.
            shift: (P - 1,) to use instead of the head's own.

        Returns:
            Log shares, (B, P).

        Raises:
            ValueError: If the gate is on and `known` is None.
        """
        odds = self.gate[:, 0].expand(len(recent.item), len(self.gate))
        if gate.NAME in self.terms:
            if known is None:
                raise ValueError("the gate needs the pairs known of each event's item")
            newest = (known * (recent.mask & (recent.steps_back == 0))).sum(1, keepdim=True).float()  # (B, 1)
            odds = torch.cat([recent.context, newest.log1p()], dim=1) @ self.gate.T
        odds = odds + (self.shift if shift is None else shift)
        off = torch.ones_like(odds, dtype=torch.bool)
        for position, part in enumerate(self.parts[1:]):
            if part.name in self.terms:
                off[:, position] = ~part.implementation.is_open(recent)
        return torch.cat([torch.zeros(len(odds), 1), odds.masked_fill(off, -torch.inf)], dim=1).log_softmax(1)

    def mix_log_probabilities(self, log_shares: Tensor, base: Tensor, *others: Tensor | float) -> Tensor:
        """Mix the parts.

        Args:
            log_shares: (B, P).
            base: Log-probabilities of the base, (B,) or (B, C).
            others: Probabilities of each of the P - 1 other parts, of the same shape; 0.0 for one that is off.

        Returns:
            Log-probabilities of the mixture, shaped as `base`.
        """
        own, *shares = (share.view(-1, *[1] * (base.ndim - 1)) for share in log_shares.unbind(1))
        weighted = [share.exp() * other for share, other in zip(shares, others, strict=True)]
        # Probabilities far below fp32's range still have a logarithm in `own`, which keeps its gradient.
        total = torch.as_tensor(sum(weighted[1:], weighted[0]))
        return torch.logaddexp(own + base, total.clamp(min=MIN_PROBABILITY).log())

    def describe(self) -> dict[str, Any]:
        """Return the learned values by name, in the units of a report.

        Returns:
            Rounded values.
        """
        with torch.no_grad():
            learned: dict[str, Any] = {"sharpness": round(float(self.log_sharpness.exp()), 3)}
            for _, term in self.iterate_terms():
                learned |= term.describe(self)
            learned["gate"] = [[round(weight, 3) for weight in row] for row in self.gate.tolist()]
            return learned | {"shift": self.shift.tolist()}

    def event_weights(self, recent: RecentEvents) -> Tensor:
        """Return the weight w_uj of each event, (B, T).

        Args:
            recent: Last T events of B histories.

        Returns:
            Weights, (B, T).
        """
        return compute_event_weights(self, recent.age_days, recent.steps_back, recent.mask)
