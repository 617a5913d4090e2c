"""Transitions term: where people went from the items of a user's last events.

    p(i|u,t) = sum_j w_uj (C_t[j,i] + kappa p_text(i|j)) / (sum_i C_t[j,i] + kappa)

with C the decaying pair counts, w_uj the weight of the user's event on j, and p_text the text neighbors of j.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from llmrec.config.drift import TermName
from llmrec.drift.terms import gate
from llmrec.drift.terms.environment import format_decay
from llmrec.drift.terms.pair_counts import Transitions, TransitionSettings
from llmrec.drift.terms.protocol import DriftTerm
from llmrec.drift.terms.term_inputs import Counts, ExplainTarget, Head, RecentEvents, Stream, TargetPass, TermContext
from llmrec.drift.text_neighbors import find_new_item_neighbors, new_item_probability
from llmrec.utils.arrays import Arrays, Rows, resize_sparse

NAME: TermName = "transitions"


class TransitionRows(NamedTuple):
    """Pair counts C and text neighbors as of a moment."""

    tables: list[sparse.csr_array]
    """Tables whose sum is C before decay, (N, N) each."""
    row_sums: NDArray[np.float64]
    """Row sums before decay, (N,)."""
    decay: float
    """Factor of the tables and row sums at the moment."""
    text: sparse.csr_array
    """Text neighbors p_text, (N, N)."""

    @classmethod
    def from_counts(cls, counts: Counts, text: sparse.csr_array) -> TransitionRows:
        """Read the pair counts as of the moment of all counts.

        Args:
            counts: Counts of item pairs.
            text: Text neighbors, (N, N).

        Returns:
            Rows of pairs and text neighbors.
        """
        own: Transitions = counts.counts[NAME]
        return cls(own.tables, own.row_sums, own.decay_at(counts.require_moment()), text)

    def row_sum(self, recent: RecentEvents) -> Tensor:
        """Return sum_i C_t[j,i] of each event's item, in fp64.

        Args:
            recent: Last events of B histories.

        Returns:
            Row sums, (B, T).
        """
        return torch.from_numpy(self.row_sums)[recent.item] * self.decay


class TargetPairs(NamedTuple):
    """Pairs of each event with the target."""

    pairs: Tensor
    """Counts C of the pairs, (B, T)."""
    row_sum: Tensor
    """Row sums of C, (B, T)."""
    text: Tensor
    """Text probabilities p_text of the pairs, (B, T)."""


class TransitionTerm(DriftTerm):
    """Transitions; the view is `TransitionRows`, whose row sums the gate reads even if the term is off."""

    optional = False
    shifts = (-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0, 3.0)

    def describe(self, head: Head) -> dict[str, Any]:
        """Return the weight of text neighbors, in pairs."""
        return {"kappa": round(float(head.log_kappa.exp()), 3)}

    def format_learned(self, learned: Mapping[str, Any]) -> str:
        """Format the half-life of pairs and the weight of text neighbors."""
        return (
            f"What people went on to counts {format_decay(learned['transition_half_life_days'])}; the text "
            f"neighbors of an item weigh as much as {learned['kappa']:.3g} moves from it."
        )

    def identify(self, head: Head, stream: Stream) -> dict[str, Any]:
        """Return the settings of pairs."""
        return {NAME: asdict(_make_settings(stream))}

    def new_counts(self, stream: Stream) -> Transitions:
        """Return empty counts."""
        return Transitions(stream.n_items, stream.n_users, settings=_make_settings(stream))

    def is_counted(self, terms: frozenset[TermName]) -> bool:
        """Return True if the part or the gate reads the pairs."""
        return NAME in terms or gate.NAME in terms

    def resize_state(self, state: Arrays, more: int) -> Arrays:
        """Return the tables and row sums with new items without pairs."""
        ends = {name: np.pad(array, (0, more), mode="edge") for name, array in state.items() if name.endswith("indptr")}
        return ends | {"row_sums": np.pad(state["row_sums"], (0, more))}

    def read(self, stream: Stream, counts: Counts, recent: RecentEvents, state: Tensor | None) -> TransitionRows:
        """Return the pair counts as of the moment."""
        return TransitionRows.from_counts(counts, stream.text)

    def add_texts(self, view: TransitionRows, vectors: Tensor, n_neighbors: int) -> TransitionRows:
        """Add rows for items outside the catalog, which have no pairs."""
        n_items = len(view.row_sums)
        near = find_new_item_neighbors(vectors[:n_items], vectors[n_items:], n_neighbors)
        text = sparse.vstack([view.text, near], format="csr")
        tables = [resize_sparse(table, (len(vectors), n_items)) for table in view.tables]
        return TransitionRows(tables, np.pad(view.row_sums, (0, len(vectors) - n_items)), view.decay, text)

    def is_open(self, recent: RecentEvents) -> Tensor:
        """Return which histories have an event to continue from, (B,)."""
        return recent.mask.any(1)

    def score(self, context: TermContext) -> Tensor:
        """Return the probabilities of all items, (B, N)."""
        return transition_probabilities(context.head, context.recent, context.views[NAME])

    def score_new_items(self, context: TermContext, vectors: Tensor) -> Tensor:
        """Return the probabilities of items outside the catalog, which only text leads to."""
        recent, view = context.recent, context.views[NAME]
        text, row_sum = text_transition_probability(context, vectors), view.row_sum(recent).float()
        none = torch.zeros_like(row_sum)
        each = [transition_probability(context.head, recent, none, row_sum, text=one) for one in text.unbind(2)]
        return torch.stack(each, dim=1)

    def gather(self, view: TransitionRows, recent: RecentEvents, columns: Tensor, target: Tensor) -> TargetPairs:
        """Return the pairs of each event with the target."""
        pairs = recent.item.numpy().ravel(), np.repeat(target.numpy(), recent.item.shape[1])
        count = sum((_gather_pairs(table, pairs, recent) for table in view.tables), torch.zeros(recent.item.shape))
        row_sum = view.row_sum(recent).float()
        return TargetPairs(count * view.decay, row_sum, _gather_pairs(view.text, pairs, recent))

    def score_targets(self, head: Head, seen: TargetPass) -> Tensor:
        """Return the probabilities of the targets, (B,), with gradients."""
        count, row_sum, text = seen.views[NAME]
        return transition_probability(head, seen.recent, count, row_sum, text=text)

    def explain(self, context: TermContext, target: ExplainTarget) -> list[tuple[int | None, float]]:
        """Return the probability that each of the last events gives; their sum is exact."""
        recent, view = context.recent, context.views[NAME]
        here = recent.mask[0].nonzero().flatten()
        if not len(here):
            return []
        source = recent.item[0, here].numpy().copy()
        count, text = np.zeros(len(source)), np.zeros(len(source))
        if target.row is not None:
            count = view.decay * _get_column(view.tables, source, target.row)
            text = _get_column([view.text], source, target.row)
        elif target.vectors is not None:
            text = text_transition_probability(context, target.vectors)[0, here, 0].double().numpy()
        kappa = float(context.head.log_kappa.double().exp())
        weight = context.head.event_weights(recent)[0, here].double().numpy()
        probability = weight * (count + kappa * text) / (view.row_sum(recent)[0, here].numpy() + kappa)
        first = len(target.events) - len(source)
        return [(first + position, float(each)) for position, each in enumerate(probability)]


def count_known_pairs(views: Mapping[TermName, Any], recent: RecentEvents) -> Tensor | None:
    """Count the pairs known of each event's item, which the gate reads; None if no term reads pairs.

    Args:
        views: View of each term.
        recent: Last events of B histories.

    Returns:
        Row sums, (B, T), or None.
    """
    view: TransitionRows | None = views.get(NAME)
    return None if view is None else view.row_sum(recent)


def transition_probability(head: Head, recent: RecentEvents, count: Tensor, row_sum: Tensor, *, text: Tensor) -> Tensor:
    """Return the probability of one item for each history.

    Args:
        head: Fitted weights.
        recent: Last T events of B histories.
        count: C of each event's item and the one item, (B, T).
        row_sum: Row sums of C, (B, T).
        text: p_text of the one item by each event's item, (B, T).

    Returns:
        Probabilities, (B,).
    """
    weight, kappa = head.event_weights(recent), head.log_kappa.exp()
    return (weight * (count + kappa * text) / (row_sum + kappa)).sum(1)


def transition_probabilities(head: Head, recent: RecentEvents, view: TransitionRows) -> Tensor:
    """Compute the probability of every item for each history, by products of sparse matrices.

    Args:
        head: Fitted weights.
        recent: Last events of B histories.
        view: Pair counts and text neighbors.

    Returns:
        Probabilities, (B, N).
    """
    weight, kappa = head.event_weights(recent).double(), head.log_kappa.exp().double()
    scaled = weight / (view.row_sum(recent) + kappa)
    moved: Any = _build_rows(recent.item, kappa * scaled, len(view.row_sums)) @ view.text
    counted = _build_rows(recent.item, view.decay * scaled, len(view.row_sums))
    for table in view.tables:
        moved = moved + counted @ table
    moved.data = moved.data.astype(np.float32)  # `moved.astype` would sort every row first
    return torch.from_numpy(moved.toarray())


def text_transition_probability(context: TermContext, vectors: Tensor) -> Tensor:
    """Compute p_text of items outside the catalog by each event.

    Args:
        context: B histories at one moment.
        vectors: Unit text vectors of the items, (F, D).

    Returns:
        Probabilities, (B, T, F).
    """
    recent, view = context.recent, context.views[NAME]
    if context.vectors is None:
        return torch.zeros(*recent.item.shape, len(vectors))
    rows, n_neighbors = recent.item.flatten(), context.config.n_text_neighbors
    probability = new_item_probability(view.text, context.vectors, rows, vectors, n_neighbors=n_neighbors)
    return probability.view(*recent.item.shape, len(vectors))


def _make_settings(stream: Stream) -> TransitionSettings:
    config, half_life = stream.config, stream.transition_half_life_days
    return TransitionSettings(config.window, config.gap_decay_days, config.backward_weight, half_life, stream.ties)


def _build_rows(item: Tensor, weight: Tensor, n_items: int) -> sparse.csr_array:
    """Return sparse rows (B, N) with `weight` (B, T) in the columns `item` (B, T)."""
    size, steps = item.shape
    ends = np.arange(0, size * steps + 1, steps)
    return sparse.csr_array((weight.flatten().numpy(), item.flatten().numpy(), ends), shape=(size, n_items))


def _gather_pairs(table: sparse.csr_array, pairs: tuple[Rows, Rows], recent: RecentEvents) -> Tensor:
    return torch.from_numpy(np.asarray(table[pairs])).float().view(recent.item.shape)


def _get_column(tables: Sequence[Any], source: Rows, row: int) -> NDArray[np.float64]:
    """Return (T,) sums over sparse tables at rows `source` (T,) of one column."""
    total = np.zeros(len(source))
    for table in tables:
        total += np.asarray(table[source, np.full(len(source), row)]).ravel()
    return total
