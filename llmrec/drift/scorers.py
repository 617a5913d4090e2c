"""Scorers of a drift head, for queries that come in order of time."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from llmrec.config.drift import TermName
from llmrec.data.histories import Queries
from llmrec.drift.head import DriftHead
from llmrec.drift.mixture import build_recent_events, read_context, read_views
from llmrec.drift.stream import REFRESH_DAILY, ReplayStream, StreamCounts
from llmrec.drift.terms import SWITCHES
from llmrec.drift.terms.term_inputs import RecentEvents, TermContext
from llmrec.evaluation.ranking import Scorer
from llmrec.utils.arrays import Rows


class _RefreshingScorer:
    """A scorer whose counts follow the queries; where their time goes back, counting starts over."""

    def __init__(self, stream: ReplayStream, refresh_days: float) -> None:
        self.stream, self.refresh_days = stream, refresh_days
        self._counts = stream.new_counts()

    def iterate_moments(self, queries: Queries) -> Iterator[tuple[Rows, RecentEvents, StreamCounts]]:
        """Iterate over refresh moments: rows of their queries, last events of these, and the counts."""
        moments = self.stream.refresh_times(queries.time, self.refresh_days)
        if self._counts.moment is not None and len(moments) and moments.min() < self._counts.moment:
            self._counts = self.stream.new_counts()
        for rows, counts in self.stream.replay(self._counts, queries, self.refresh_days):
            yield rows, build_recent_events(queries.take(rows), self.stream.trained_until), counts


class DriftScorer(_RefreshingScorer):
    """Scorer by the mixture."""

    def __init__(
        self, head: DriftHead, base: Scorer, stream: ReplayStream, *, refresh_days: float = REFRESH_DAILY
    ) -> None:
        super().__init__(stream, refresh_days)
        self.head, self.base = head, base

    @torch.no_grad()
    def score(self, queries: Queries) -> Tensor:
        """Compute the log-probabilities of all items.

        Args:
            queries: B queries in time order.

        Returns:
            Log-probabilities, (B, N).
        """
        scores = self.base.score(queries)
        for rows, recent, counts in self.iterate_moments(queries):
            context = read_context(self.head, self.stream, scores[rows], recent, counts=counts)
            scores[rows] = context.log_probabilities()
        return scores


class TermScorer(_RefreshingScorer):
    """Scorer by one part of the mixture, without the model below."""

    def __init__(self, term: TermName, head: DriftHead, stream: ReplayStream) -> None:
        super().__init__(stream, REFRESH_DAILY)
        self.head, self.term = head, term

    @torch.no_grad()
    def score(self, queries: Queries) -> Tensor:
        """Compute the probabilities of all items.

        Args:
            queries: B queries in time order.

        Returns:
            Probabilities, (B, N).
        """
        scores = torch.zeros(len(queries), self.stream.n_items)
        for rows, recent, counts in self.iterate_moments(queries):
            views = read_views(frozenset({self.term}), self.stream, counts, recent)
            context = TermContext(self.head, recent, views, None, self.stream.config)
            scores[rows] = SWITCHES[self.term].score(context)
        return scores
