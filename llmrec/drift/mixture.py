"""The mixture of a drift head's terms for histories: log probabilities of items in and out of the catalog."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from llmrec.config.drift import MAX_HISTORY
from llmrec.data.histories import Queries
from llmrec.drift.head import DriftHead, RecentEvents, TransitionRows
from llmrec.drift.stream import ChainTables, ReplayStream, StreamCounts
from llmrec.drift.text_neighbors import new_item_probability
from llmrec.utils.units import SECONDS_PER_DAY


class MixtureTerms(NamedTuple):
    """The three parts of the mixture for B queries: log_shares (B, 3), base (B, N) log chances, the others chances."""

    log_shares: Tensor
    base: Tensor
    moved: Tensor | float
    chained: Tensor | float


def compute_mixture_terms(
    head: DriftHead,
    stream: ReplayStream,
    scores: Tensor,
    recent: RecentEvents,
    counts: StreamCounts,
    interest: Tensor | None = None,
) -> MixtureTerms:
    """scores: (B, N) of the model that the head sits on. interest: (B, K), if not as `recent` has it."""
    base = head.base_logits(scores, environment_counts(counts)).log_softmax(1)
    transitions = transition_rows(counts, stream)
    moved = head.transition_probabilities(recent, transitions) if "transitions" in head.terms else 0.0
    chained = score_chain(head, stream, recent, counts, interest) if "chain" in head.terms else 0.0
    return MixtureTerms(head.log_mixture_shares(recent, transitions.row_sum(recent)), base, moved, chained)


def score_transitions(head: DriftHead, stream: ReplayStream, recent: RecentEvents, counts: StreamCounts) -> Tensor:
    """(B, N) chances by transitions alone."""
    return head.transition_probabilities(recent, transition_rows(counts, stream))


def score_chain(
    head: DriftHead, stream: ReplayStream, recent: RecentEvents, counts: StreamCounts, interest: Tensor | None = None
) -> Tensor:
    """(B, N) chances by the chain alone."""
    if stream.chain is None:
        raise ValueError("the stream has no chain; fit one, or leave the term out")
    taken = head.state_logits(stream.chain.emission, environment_counts(counts)).softmax(1)  # (K, N)
    return (stream.chain.interest_from_history(recent) if interest is None else interest) @ taken


def environment_counts(counts: StreamCounts) -> Tensor:
    """(H, N) of the environment as of the world's moment."""
    return torch.from_numpy(counts.environment.counts_at(_require_moment(counts))).float()


def transition_rows(counts: StreamCounts, stream: ReplayStream) -> TransitionRows:
    transitions = counts.transitions
    return TransitionRows(
        transitions.tables, transitions.row_sums, transitions.decay_at(_require_moment(counts)), stream.text
    )


def _require_moment(counts: StreamCounts) -> int:
    if counts.moment is None:
        raise ValueError("the world has not been brought to a moment yet")
    return counts.moment


def build_recent_events(queries: Queries, trained_until: int | None = None) -> RecentEvents:
    """The last events of each history, and the state of things that the gate looks at."""
    position, mask = queries.last_positions(MAX_HISTORY)  # (B, T)
    time, length = queries.histories.time, mask.sum(1)
    asked = queries.time[:, None]
    event = np.where(mask, time[position] if len(time) else 0, asked)
    age = (asked - event) / SECONDS_PER_DAY
    gap, span = age.min(1, where=mask, initial=np.inf), age.max(1)
    gap = np.where(length > 0, gap, 0.0)
    stale = (
        np.zeros_like(gap) if trained_until is None else np.maximum(queries.time - trained_until, 0) / SECONDS_PER_DAY
    )
    columns = np.ones_like(gap), np.log1p(gap), np.log1p(length), gap == 0, np.log1p(span - gap), np.log1p(stale)
    context = np.stack(columns, axis=1)
    back = np.maximum(length[:, None] - 1 - np.arange(mask.shape[1]), 0)
    item = np.where(mask, queries.histories.item[position] if len(time) else 0, 0)
    return RecentEvents(
        torch.from_numpy(item),
        torch.from_numpy(mask),
        torch.from_numpy(age).float(),
        torch.from_numpy(back).float(),
        torch.from_numpy(context).float(),
    )


@dataclass(frozen=True)
class DriftContext:
    """B histories at one moment, and the world as it then is.

    scores: (B, N) of the model below. counts: (H, N) of the environment. interest: (B, K) in the chain's states, None
    without a chain. vectors: (N + R, D) of the catalog's texts and of those that histories hold beside, as the chain
    and `moves`, which has as many rows, know them; None for a bundle on ids alone. cold: (R, D_item) of the latter, as
    the model below knows them.
    """

    head: DriftHead
    queries: Queries
    recent: RecentEvents
    scores: Tensor
    counts: Tensor
    moves: TransitionRows
    chain: ChainTables | None
    interest: Tensor | None
    vectors: Tensor | None
    cold: Tensor | None
    n_neighbours: int

    def select(self, position: int) -> DriftContext:
        """One of the histories alone."""
        one = slice(position, position + 1)
        recent = RecentEvents(*(column[one] for column in self.recent))
        interest = None if self.interest is None else self.interest[one]
        return replace(self, queries=self.queries.take(one), recent=recent, scores=self.scores[one], interest=interest)

    def mixture_terms(self) -> MixtureTerms:
        """The mixture's three parts, as `compute_mixture_terms` has them."""
        head = self.head
        moved: Tensor | float = 0.0
        chained: Tensor | float = 0.0
        if "transitions" in head.terms:
            moved = head.transition_probabilities(self.recent, self.moves)
        if self.chain is not None and self.interest is not None:
            chained = self.interest @ head.state_logits(self.chain.emission, self.counts).softmax(1)
        return MixtureTerms(self.log_mixture_shares(), self.base_logits().log_softmax(1), moved, chained)

    def log_probabilities(self) -> Tensor:
        """(B, N)"""
        return self.head.mix_log_probabilities(*self.mixture_terms())

    def base_logits(self) -> Tensor:
        """(B, N) logits of the first part."""
        return self.head.base_logits(self.scores, self.counts)

    def log_mixture_shares(self) -> Tensor:
        """(B, 3) of the first part, transitions and the chain."""
        return self.head.log_mixture_shares(self.recent, self.moves.row_sum(self.recent))

    def new_item_terms(self, scores: Tensor, vectors: Tensor | None) -> MixtureTerms:
        """`mixture_terms` of items of no catalog, each as if it alone were added: scores (B, F), vectors (F, D)."""
        head = self.head
        moved: Tensor | float = 0.0
        chained: Tensor | float = 0.0
        base = head.base_logits(scores, self._make_zeros(scores.shape[1]))
        base = base - torch.logaddexp(self.base_logits().logsumexp(1, keepdim=True), base)
        if "transitions" in head.terms and vectors is not None:
            text, row_sum = self.text_transition_probability(vectors), self.moves.row_sum(self.recent).float()
            none = torch.zeros_like(row_sum)
            moved = torch.stack(
                [head.transition_probability(self.recent, none, row_sum, each) for each in text.unbind(2)], dim=1
            )
        if self.interest is not None and vectors is not None:
            chained = self.interest @ self.state_probabilities(vectors)
        return MixtureTerms(self.log_mixture_shares(), base, moved, chained)

    def text_transition_probability(self, vectors: Tensor) -> Tensor:
        """(B, T, F) p_text(f|j) of items of no catalog (F, D) by each event of the histories."""
        if self.vectors is None:
            return torch.zeros(*self.recent.item.shape, len(vectors))
        rows = self.recent.item.flatten()
        chance = new_item_probability(self.moves.text, self.vectors, rows, vectors, self.n_neighbours)
        return chance.view(*self.recent.item.shape, len(vectors))

    def state_probabilities(self, vectors: Tensor) -> Tensor:
        """(K, F) chances of items of no catalog (F, D) in the chain's states."""
        if self.chain is None:
            raise ValueError("there is no chain")
        total = self.head.state_logits(self.chain.emission, self.counts).logsumexp(1, keepdim=True)  # (K, 1)
        own = self.head.state_logits(self.chain.chain.emission(vectors), self._make_zeros(len(vectors)))
        return (own - torch.logaddexp(total, own)).exp()

    def _make_zeros(self, n_items: int) -> Tensor:
        return torch.zeros(len(self.counts), n_items)
