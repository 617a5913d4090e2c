"""Interest in K latent states, read from item texts and moved by a Markov chain.

    p(k|j)   = softmax_k(w_k . x_j + a_k)                        states that an event on item j is evidence for
    p(i|k,t) = softmax_i(w_k . x_i + o_i(t))                     items that people in state k choose; o: popularity
    s       <- s P(dt)                                           over a gap, by `MarkovChain`
    s       <- (1 - g) s + g p(.|j)                              on an event

with x the text vectors, so that new items need no events. Two beliefs, a slow and a fast one, share states and M, and
differ in lambda and g; interest in a state is a blend of them. An event costs O(K^2), and no gradient.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from llmrec.drift.markov_chain import MarkovChain, propagate, to_ticks
from llmrec.drift.terms.term_inputs import RecentEvents, Stream

MOVES_PER_DAY = 1 / 240, 1 / 20  # initial lambda of the slow and of the fast belief
GAIN = 0.15, 0.5  # initial g of the two
SHARPNESS = 10.0  # of w, in unit vectors


class LatentChain(nn.Module):
    """The states' directions w and biases a, the chain, and the two beliefs that follow it."""

    def __init__(self, centers: Tensor) -> None:
        """Start the directions along unit vectors (K, D)."""
        super().__init__()
        self.direction = nn.Parameter(SHARPNESS * centers)
        self.bias = nn.Parameter(torch.zeros(len(centers)))
        self.start = nn.Parameter(torch.zeros(len(centers)))
        self.chain = MarkovChain(len(centers), MOVES_PER_DAY)
        self.gain = nn.Parameter(torch.logit(torch.tensor(GAIN)))
        self.blend = nn.Parameter(torch.zeros(()))

    def evidence(self, vectors: Tensor) -> Tensor:
        """Compute the evidence p(k|j) of items.

        Args:
            vectors: Text vectors, (..., D).

        Returns:
            Probabilities of the states, (..., K).
        """
        return (vectors @ self.direction.T + self.bias).softmax(-1)

    def emission(self, vectors: Tensor) -> Tensor:
        """Compute the emission w_k . x_i of items.

        Args:
            vectors: Text vectors of N items, (N, D).

        Returns:
            Logits, (K, N).
        """
        return self.direction @ vectors.T

    def initial_belief(self, size: int) -> Tensor:
        """Return the beliefs about users without events.

        Args:
            size: Number of users, B.

        Returns:
            Beliefs, (B, 2, K).
        """
        return self.start.softmax(0).expand(size, len(self.chain.log_rate), -1)

    def update_belief(self, belief: Tensor, evidence: Tensor) -> Tensor:
        """Update beliefs with one event of each user.

        Args:
            belief: Beliefs, (B, 2, K).
            evidence: Evidence of the event of each user, (B, K).

        Returns:
            Beliefs, (B, 2, K).
        """
        gain = torch.sigmoid(self.gain)[:, None]  # (2, 1)
        return (1 - gain) * belief + gain * evidence[:, None]

    def state_probabilities(self, belief: Tensor) -> Tensor:
        """Blend the two beliefs into probabilities of the states.

        Args:
            belief: Beliefs, (..., 2, K).

        Returns:
            Probabilities, (..., K).
        """
        fast = torch.sigmoid(self.blend)
        slow_belief, fast_belief = belief.unbind(-2)
        return (1 - fast) * slow_belief + fast * fast_belief

    def beliefs_before_events(
        self, evidence: Tensor, gap_days: Tensor, mask: Tensor, *, ties: bool, powers: Tensor
    ) -> Tensor:
        """Compute the interest just before each event, by the history of that event.

        Args:
            evidence: Of the events, oldest first, (B, T, K).
            gap_days: Days since the previous event, (B, T).
            mask: (B, T) bool.
            ties: Events of one moment, which have a gap of 0, are in each other's history, in order.
            powers: Transition powers of the chain.

        Returns:
            Probabilities of the states, (B, T, K).
        """
        belief = before = self.initial_belief(len(evidence))
        gaps, interests = to_ticks(gap_days), []
        for step, found in enumerate(evidence.unbind(1)):  # gradients of parts are not padded to that of the whole
            belief = propagate(belief, gaps[:, step], powers)
            fresh = (gap_days[:, step] > 0) | (step == 0) | ties
            before = torch.where(fresh[:, None, None], belief, before)
            interests.append(self.state_probabilities(before))
            belief = torch.where(mask[:, step, None, None], self.update_belief(belief, found), belief)
        return torch.stack(interests, dim=1)

    @torch.no_grad()
    def belief_at_query(self, evidence: Tensor, age_days: Tensor, mask: Tensor, powers: Tensor) -> Tensor:
        """Compute the beliefs at the query; the first event finds those about a new user.

        Args:
            evidence: Of the events, padded right, (B, T, K).
            age_days: Age of each event at the query, (B, T).
            mask: (B, T) bool.
            powers: Transition powers of the chain.

        Returns:
            Beliefs, (B, 2, K).
        """
        age = torch.where(mask, age_days, 0.0)
        gaps = to_ticks(functional.pad(age[:, :-1] - age[:, 1:], (1, 0)))  # the step into the padding reaches the query
        belief = self.initial_belief(len(evidence))
        longest = int(mask.sum(1).max()) if len(mask) else 0
        for step in range(min(longest + 1, mask.shape[1])):
            belief = propagate(belief, gaps[:, step], powers)
            belief = torch.where(mask[:, step, None, None], self.update_belief(belief, evidence[:, step]), belief)
        full = mask[:, -1]
        return propagate(belief, to_ticks(torch.where(full, age[:, -1], 0.0)), powers)


class ChainTables(NamedTuple):
    """Tables of a fitted chain over all items, made once."""

    chain: LatentChain
    """Fitted chain."""
    evidence: Tensor
    """Evidence p(k|j) of each item, (N, K)."""
    emission: Tensor
    """Emission w_k . x_i of each item, (K, N)."""
    powers: Tensor
    """Transition powers, (R, J, K, K)."""

    @classmethod
    @torch.no_grad()
    def from_chain(cls, chain: LatentChain, vectors: Tensor) -> ChainTables:
        """Compute the tables of items.

        Args:
            chain: Fitted chain.
            vectors: Text vectors of the items, like those that the chain was fitted on, (N, D).

        Returns:
            Tables.
        """
        return cls(chain, chain.evidence(vectors), chain.emission(vectors), chain.chain.transition_powers())

    def with_texts(self, vectors: Tensor) -> ChainTables:
        """Return tables that have evidence of more items.

        Args:
            vectors: Unit text vectors of the new items, (R, D).

        Returns:
            Tables.
        """
        return self._replace(evidence=torch.cat([self.evidence, self.chain.evidence(vectors)]))

    def interest_from_history(self, recent: RecentEvents) -> Tensor:
        """Compute the interest of users with these last events.

        Args:
            recent: Last events of B histories.

        Returns:
            Probabilities of the states, (B, K).
        """
        belief = self.chain.belief_at_query(self.evidence[recent.item], recent.age_days, recent.mask, self.powers)
        return self.chain.state_probabilities(belief)


def get_tables(stream: Stream) -> ChainTables:
    """Return the chain tables of a stream.

    Args:
        stream: Settings and tables.

    Returns:
        Tables of the chain.

    Raises:
        ValueError: If it has none.
    """
    tables: ChainTables | None = stream.chain
    if tables is None:
        raise ValueError("the stream has no chain; fit one, or leave the term out")
    return tables
