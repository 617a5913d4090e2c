"""Interest in K latent states, read off item texts and moved by a Markov chain, so that new items need nothing special.

    p(k|j)   = softmax_k(w_k . x_j + a_k)                        which states an event on item j speaks for
    p(i|k,t) = softmax_i(w_k . x_i + o_i(t))                     what people in state k take; o: what everyone takes
    s       <- s P(dt)                                           over a gap, by `MarkovChain`
    s       <- (1 - g) s + g p(.|j)                              on an event

with x the text vectors. Two beliefs, a slow and a fast one, share states and M, and differ in lambda and g; interest in
a state is a blend of them. An event costs O(K^2), and no gradient.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from llmrec.drift.markov_chain import MarkovChain, propagate, to_ticks

MOVES_PER_DAY = 1 / 240, 1 / 20  # lambda of the slow and of the fast belief to start with
GAIN = 0.15, 0.5  # g of the two, to start with
SHARPNESS = 10.0  # of w, in unit vectors


class LatentChain(nn.Module):
    """The states' directions w and biases a, the chain, and the two beliefs that follow it.

    centres: (K, D) unit vectors that w starts along.
    """

    def __init__(self, centres: Tensor) -> None:
        super().__init__()
        self.direction = nn.Parameter(SHARPNESS * centres)
        self.bias = nn.Parameter(torch.zeros(len(centres)))
        self.start = nn.Parameter(torch.zeros(len(centres)))
        self.chain = MarkovChain(len(centres), MOVES_PER_DAY)
        self.gain = nn.Parameter(torch.logit(torch.tensor(GAIN)))
        self.blend = nn.Parameter(torch.zeros(()))

    def evidence(self, vectors: Tensor) -> Tensor:
        """(..., K) p(k|j) of items by their text vectors (..., D)."""
        return (vectors @ self.direction.T + self.bias).softmax(-1)

    def emission(self, vectors: Tensor) -> Tensor:
        """(K, N) w_k . x_i of items by their text vectors (N, D)."""
        return self.direction @ vectors.T

    def initial_belief(self, size: int) -> Tensor:
        """(B, 2, K) beliefs about users without events."""
        return self.start.softmax(0).expand(size, len(self.chain.log_rate), -1)

    def update_belief(self, belief: Tensor, evidence: Tensor) -> Tensor:
        """Beliefs (B, 2, K) after an event with evidence (B, K)."""
        gain = torch.sigmoid(self.gain)[:, None]  # (2, 1)
        return (1 - gain) * belief + gain * evidence[:, None]

    def state_probabilities(self, belief: Tensor) -> Tensor:
        """(..., K) chances of the states by beliefs (..., 2, K)."""
        fast = torch.sigmoid(self.blend)
        return (1 - fast) * belief[..., 0, :] + fast * belief[..., 1, :]

    def beliefs_before_events(
        self, evidence: Tensor, gap_days: Tensor, mask: Tensor, ties: bool, powers: Tensor
    ) -> Tensor:
        """(B, T, K) interest just before each event, as its history has it.

        evidence: (B, T, K) of the events, oldest first. gap_days, mask: (B, T), days since the event before. powers: of
        the chain. ties: events of one moment, which have a gap of 0, are in each other's history, in order.
        """
        belief = before = self.initial_belief(len(evidence))
        gaps, interests = to_ticks(gap_days), []
        for step in range(evidence.shape[1]):
            belief = propagate(belief, gaps[:, step], powers)
            fresh = (gap_days[:, step] > 0) | (step == 0) | ties
            before = torch.where(fresh[:, None, None], belief, before)
            interests.append(self.state_probabilities(before))
            learned = self.update_belief(belief, evidence[:, step])
            belief = torch.where(mask[:, step, None, None], learned, belief)
        return torch.stack(interests, dim=1)

    @torch.no_grad()
    def belief_at_query(self, evidence: Tensor, age_days: Tensor, mask: Tensor, powers: Tensor) -> Tensor:
        """(B, 2, K) beliefs at the query, after histories with evidence (B, T, K) and ages (B, T), padded right.

        The first event finds a newcomer's belief, however long ago it was.
        """
        age = torch.where(mask, age_days, 0.0)
        gaps = to_ticks(
            functional.pad(age[:, :-1] - age[:, 1:], (1, 0))
        )  # the step into the padding goes up to the query
        belief = self.initial_belief(len(evidence))
        for step in range(evidence.shape[1]):
            belief = propagate(belief, gaps[:, step], powers)
            belief = torch.where(mask[:, step, None, None], self.update_belief(belief, evidence[:, step]), belief)
        full = mask[:, -1]
        return propagate(belief, to_ticks(torch.where(full, age[:, -1], 0.0)), powers)
