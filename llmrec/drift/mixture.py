"""Mixture of a drift head's parts: log-probabilities of items in and outside the catalog."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from llmrec.config.drift import MAX_HISTORY, TermName
from llmrec.data.histories import Queries
from llmrec.drift.head import DriftHead
from llmrec.drift.stream import ReplayStream, StreamCounts
from llmrec.drift.terms import BY_NAME, SWITCHES
from llmrec.drift.terms.term_inputs import RecentEvents, TermContext
from llmrec.drift.terms.transitions import count_known_pairs
from llmrec.utils.units import SECONDS_PER_DAY


class MixtureTerms(NamedTuple):
    """Parts of the mixture for B queries."""

    log_shares: Tensor
    """Log shares of the parts, (B, P)."""
    base: Tensor
    """Log-probabilities of the base, (B, N)."""
    others: tuple[Tensor | float, ...]
    """Probabilities of each other part, (B, N); 0.0 for one that is off."""


@dataclass(frozen=True)
class MixtureContext(TermContext):
    """Context of the terms with the scores of the model below."""

    head: DriftHead
    """Drift head."""
    scores: Tensor
    """Scores of all items by the model below, (B, N)."""

    def mixture_terms(self) -> MixtureTerms:
        """Compute the parts of the mixture over the catalog.

        Returns:
            Shares and parts.
        """
        others = [
            part.implementation.score(self) if part.name in self.head.terms else 0.0 for part in self.head.parts[1:]
        ]
        return MixtureTerms(self.log_mixture_shares(), self.base_logits().log_softmax(1), tuple(others))

    def log_probabilities(self) -> Tensor:
        """Compute the log-probabilities of all items.

        Returns:
            Log-probabilities, (B, N).
        """
        return self.mix(self.mixture_terms())

    def mix(self, terms: MixtureTerms) -> Tensor:
        """Mix the parts into log-probabilities.

        Args:
            terms: Parts of the mixture.

        Returns:
            Log-probabilities, (B, N).
        """
        return self.head.mix_log_probabilities(terms.log_shares, terms.base, *terms.others)

    def base_logits(self) -> Tensor:
        """Compute the logits of the base.

        Returns:
            Logits, (B, N).
        """
        return self.head.base_logits(self.scores, self.views)

    def log_mixture_shares(self, shift: Tensor | None = None) -> Tensor:
        """Compute the log shares of the parts.

        Args:
            shift: Shift of the log-odds to use instead of the head's own, (P - 1,).

        Returns:
            Log shares, (B, P).
        """
        return self.head.log_mixture_shares(self.recent, count_known_pairs(self.views, self.recent), shift=shift)


@dataclass(frozen=True)
class DriftContext(MixtureContext):
    """Context of the mixture in a served recommender."""

    queries: Queries
    """The B histories."""
    cold: Tensor | None
    """Vectors of the R items outside the catalog in histories, as the model below has them, (R, D_item)."""

    def select(self, position: int) -> DriftContext:
        """Return the context of one of the histories.

        Args:
            position: Position of the history.

        Returns:
            Context of that history, B = 1.
        """
        one = slice(position, position + 1)
        recent = RecentEvents(*(column[one] for column in self.recent))
        views = {name: SWITCHES[name].select(view, one) for name, view in self.views.items()}
        return replace(self, queries=self.queries.take(one), recent=recent, scores=self.scores[one], views=views)

    def new_item_terms(self, scores: Tensor, vectors: Tensor | None) -> MixtureTerms:
        """Compute the parts of the mixture for items outside the catalog, each as if it alone were added.

        Args:
            scores: Of the model below, (B, F).
            vectors: Unit text vectors, (F, D), or None for a bundle on ids alone.

        Returns:
            Shares and parts over F items.
        """
        base = self.head.base_logits(scores, select_items(self.views, None, n_items=scores.shape[1]))
        base = base - torch.logaddexp(self.base_logits().logsumexp(1, keepdim=True), base)
        others = [
            part.implementation.score_new_items(self, vectors)
            if part.name in self.head.terms and vectors is not None
            else 0.0
            for part in self.head.parts[1:]
        ]
        return MixtureTerms(self.log_mixture_shares(), base, tuple(others))


def read_views(
    terms: frozenset[TermName],
    stream: ReplayStream,
    counts: StreamCounts,
    recent: RecentEvents,
    *,
    states: Mapping[TermName, Tensor] | None = None,
) -> dict[TermName, Any]:
    """Read what each term needs of a moment.

    Args:
        terms: The terms to read; counts that one of them reads are read too.
        stream: Settings and tables.
        counts: Counts as of the moment.
        recent: Last events of B histories.
        states: (B, ...) state of live users by term, where it replaces the one of the histories.

    Returns:
        Views by term.
    """
    return {
        name: term.read(stream, counts, recent, (states or {}).get(name))
        for name, term in SWITCHES.items()
        if name in terms or term.is_counted(terms)
    }


def read_context(
    head: DriftHead,
    stream: ReplayStream,
    scores: Tensor,
    recent: RecentEvents,
    *,
    counts: StreamCounts,
    states: Mapping[TermName, Tensor] | None = None,
) -> MixtureContext:
    """Read the context of B histories at the moment of the counts.

    Args:
        head: Fitted weights.
        stream: Settings and tables.
        scores: Of the model below, (B, N).
        recent: Last events of the histories.
        counts: Counts as of the moment.
        states: As in `read_views`.

    Returns:
        Context of the histories.
    """
    views = read_views(head.terms, stream, counts, recent, states=states)
    return MixtureContext(head, recent, views, None, stream.config, scores)


def select_items(
    views: Mapping[TermName, Any], rows: Tensor | list[int] | None, *, n_items: int = 1
) -> dict[TermName, Any]:
    """Select the views of logit terms for some items.

    Args:
        views: Views of the catalog, by term.
        rows: Catalog rows, (C,); None for items outside the catalog.
        n_items: Number of those.

    Returns:
        Views by term.
    """
    return {
        name: SWITCHES[name].select_items(view, rows, n_items=n_items)
        for name, view in views.items()
        if BY_NAME[name].role == "logit"
    }


def build_recent_events(queries: Queries, trained_until: int | None = None) -> RecentEvents:
    """Collect the last events of each history, and the features that the gate looks at.

    Args:
        queries: B histories at their query times.
        trained_until: End of the data that the model below was trained on, in seconds; None where no time separates
            the two.

    Returns:
        Last events and features, B histories.
    """
    position, mask = queries.last_positions(MAX_HISTORY)  # (B, T)
    time, length = queries.histories.time, mask.sum(1)
    query_time = queries.time[:, None]
    event = np.where(mask, time[position] if len(time) else 0, query_time)
    age = (query_time - event) / SECONDS_PER_DAY
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
