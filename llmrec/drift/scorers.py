"""A drift head as a scorer of queries that come in order of time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor

from llmrec.data.histories import Queries
from llmrec.drift.head import DriftHead, RecentEvents
from llmrec.drift.mixture import build_recent_events, compute_mixture_terms, score_chain, score_transitions
from llmrec.drift.stream import REFRESH_DAILY, ReplayStream, StreamCounts
from llmrec.evaluation.ranking import Scorer
from llmrec.utils.arrays import Rows


class _RefreshingScorer:
    """A scorer whose world follows the queries, which come in order of time.

    Where time goes back, another sweep has begun, and the world starts anew.
    """

    def __init__(self, stream: ReplayStream, refresh_days: float) -> None:
        self.stream, self.refresh_days = stream, refresh_days
        self._world = stream.new_counts()

    def iterate_moments(self, queries: Queries) -> Iterator[tuple[Rows, RecentEvents, StreamCounts]]:
        """Rows of the queries that share a refresh moment, their histories, and the world as of it."""
        moments = self.stream.refresh_times(queries.time, self.refresh_days)
        if self._world.moment is not None and len(moments) and moments.min() < self._world.moment:
            self._world = self.stream.new_counts()
        for rows, counts in self.stream.replay(self._world, queries, self.refresh_days):
            yield rows, build_recent_events(queries.take(rows), self.stream.trained_until), counts


class DriftScorer(_RefreshingScorer):
    """Log chances of all items."""

    def __init__(
        self, head: DriftHead, base: Scorer, stream: ReplayStream, refresh_days: float = REFRESH_DAILY
    ) -> None:
        super().__init__(stream, refresh_days)
        self.head, self.base = head, base

    @torch.no_grad()
    def score(self, queries: Queries) -> Tensor:
        """(B, N)"""
        scores = self.base.score(queries)
        for rows, recent, counts in self.iterate_moments(queries):
            scores[rows] = self.head.mix_log_probabilities(
                *compute_mixture_terms(self.head, self.stream, scores[rows], recent, counts)
            )
        return scores


class TermScorer(_RefreshingScorer):
    """Chances by one part of the mixture that needs no model."""

    def __init__(self, term: Literal["transitions", "chain"], head: DriftHead, stream: ReplayStream) -> None:
        super().__init__(stream, REFRESH_DAILY)
        self.head, self.chances = head, score_transitions if term == "transitions" else score_chain

    @torch.no_grad()
    def score(self, queries: Queries) -> Tensor:
        """(B, N)"""
        scores = torch.zeros(len(queries), self.stream.n_items)
        for rows, recent, counts in self.iterate_moments(queries):
            scores[rows] = self.chances(self.head, self.stream, recent, counts)
        return scores
