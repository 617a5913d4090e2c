"""The drift head's answer to histories: log chances of all items as of a moment, and of items that are in no catalog.

An item that is not in the catalog has the chance that it would have if it alone were added: nobody has touched it, and
it takes a place among the others' text neighbours where it is near enough.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from llmrec.data.histories import Queries
from llmrec.drift.head import TransitionRows
from llmrec.drift.mixture import DriftContext, build_recent_events, environment_counts, transition_rows
from llmrec.drift.text_neighbors import find_new_item_neighbors
from llmrec.inference.live.interest_state import InterestState
from llmrec.inference.live.users import LiveUsers
from llmrec.inference.queries import VERBATIM, Item, QueryBatch
from llmrec.inference.served_catalog import ServedCatalog
from llmrec.search.topk import RowPairs, TopK
from llmrec.utils.arrays import Rows, concat_ranges, resize_sparse

CELLS_AT_ONCE = 1 << 24  # scores of (history, item): 64 MiB in fp32


def iterate_contexts(items: ServedCatalog, live: LiveUsers, batch: QueryBatch) -> Iterator[tuple[Rows, DriftContext]]:
    """Rows of histories that were read, some at a time, and how things stand for them. Hold the lock of `live`.

    Counts are everyone's up to now: a moment before the newest event is met with them as of just after that event.
    """
    newest = live.state.counts_at(0).moment or 0
    moments = np.maximum(batch.queries.time, newest)
    new_items = _NewItems.from_texts(items, live, batch.texts)
    most = max(CELLS_AT_ONCE // max(len(items.catalog), 1), 1)
    for moment in np.unique(moments):
        rows = np.flatnonzero(moments == moment)
        for start in range(0, len(rows), most):
            chunk = rows[start : start + most]
            yield (
                chunk,
                _build_context(items, live, batch.queries.take(chunk), batch.users[chunk], int(moment), new_items),
            )


@torch.no_grad()
def rank_by_log_probability(
    items: ServedCatalog, live: LiveUsers, batch: QueryBatch, k: int, exclude: RowPairs | None, bias: Tensor
) -> TopK:
    """The k best of the mixture's log chances and `bias` (N,) for each history; exclude: what is not given to whom."""
    size = len(batch.queries), min(k, len(items.catalog))
    found = TopK(torch.full(size, -torch.inf), torch.zeros(size, dtype=torch.int64))
    for rows, context in iterate_contexts(items, live, batch):
        scores, position = context.log_probabilities() + bias, torch.from_numpy(rows)
        if exclude is not None:
            mine = torch.isin(exclude.query, position)
            scores[torch.searchsorted(position, exclude.query[mine]), exclude.item[mine]] = -torch.inf
        found.score[position], found.item[position] = scores.topk(size[1], dim=1)
    return found


@torch.no_grad()
def score_items(
    items: ServedCatalog, live: LiveUsers, batch: QueryBatch, wanted: Sequence[Sequence[Item]]
) -> list[list[float]]:
    """The mixture's log chances of the items that are wanted of each history."""
    found: list[list[float]] = [[] for _ in wanted]
    for rows, context in iterate_contexts(items, live, batch):
        chances = context.log_probabilities()
        for position, row in enumerate(rows.tolist()):
            found[row] = _score_wanted(items, context, position, chances[position], wanted[row])
    return found


def _score_wanted(
    items: ServedCatalog, context: DriftContext, position: int, chances: Tensor, wanted: Sequence[Item]
) -> list[float]:
    """Of one history, at a place in the situation: chances (N,) of the catalog."""
    rows, texts, listed = items.split_known_items(wanted)
    scores = torch.zeros(len(wanted))
    scores[listed] = chances[rows]
    if texts:
        alone = context.select(position)
        state = items.scorer.encode_histories(alone.queries, alone.cold)  # (1, D)
        own = (
            items.bundle.model.score(state, *items.scoring_vectors([{VERBATIM: text} for text in texts])).float().cpu()
        )
        scores[~listed] = alone.head.mix_log_probabilities(
            *alone.new_item_terms(own, untrained_text_vectors(items, texts))
        )[0]
    return list(scores.tolist())


@dataclass(frozen=True)
class _NewItems:
    """Texts (R) that histories hold beside the catalog: item vectors (R, D_item), as the model below knows them, and
    with the catalog's the vectors (N + R, D) of the drift head and its evidence (N + R, K).
    """

    cold: Tensor | None
    vectors: Tensor | None
    evidence: Tensor | None

    @classmethod
    def from_texts(cls, items: ServedCatalog, live: LiveUsers, texts: list[str]) -> _NewItems:
        chain = live.state.stream.chain
        vectors = None if items.drift is None else items.drift.unit_vectors()
        evidence = None if chain is None else chain.evidence
        if not texts:
            return cls(None, vectors, evidence)
        new = untrained_text_vectors(items, texts)
        if new is not None and vectors is not None:
            vectors = torch.cat([vectors, new])
            evidence = None if chain is None or evidence is None else torch.cat([evidence, chain.chain.evidence(new)])
        return cls(items.cold_item_vectors(texts), vectors, evidence)


def untrained_text_vectors(items: ServedCatalog, texts: list[str]) -> Tensor | None:
    """(R, D) of texts in no catalog, as the drift head knows items; None for a bundle on ids alone."""
    if items.drift is None or items.drift.text is None:
        return None
    return items.drift.unit_vectors(items.encode_texts_untrained(texts))


@torch.no_grad()
def _build_context(
    items: ServedCatalog, live: LiveUsers, queries: Queries, users: Rows, moment: int, new_items: _NewItems
) -> DriftContext:
    state, stream = live.state, live.state.stream
    counts = state.counts_at(moment)
    return DriftContext(
        state.head,
        queries,
        build_recent_events(queries, stream.trained_until),
        items.scorer.score(queries, new_items.cold),
        environment_counts(counts),
        _add_transition_rows(transition_rows(counts, stream), new_items.vectors, stream.config.n_text_neighbors),
        stream.chain,
        _compute_interest(live, queries, users, new_items.evidence),
        new_items.vectors,
        new_items.cold,
        stream.config.n_text_neighbors,
    )


def _add_transition_rows(transitions: TransitionRows, vectors: Tensor | None, n_neighbours: int) -> TransitionRows:
    """With rows for the texts that are in no catalog: nobody went on from them."""
    n_items = len(transitions.row_sums)
    if vectors is None or len(vectors) == n_items:
        return transitions
    text_neighbors = find_new_item_neighbors(vectors[:n_items], vectors[n_items:], n_neighbours)
    text = sparse.vstack([transitions.text, text_neighbors], format="csr")
    tables = [resize_sparse(table, (len(vectors), n_items)) for table in transitions.tables]
    return TransitionRows(tables, np.pad(transitions.row_sums, (0, len(vectors) - n_items)), transitions.fading, text)


def _compute_interest(live: LiveUsers, queries: Queries, users: Rows, evidence: Tensor | None) -> Tensor | None:
    """(B, K) by all that a live user ever did, or by all events that were given."""
    chain, beliefs = live.state.stream.chain, live.state.beliefs
    if chain is None or beliefs is None or evidence is None:
        return None
    past, count = queries.histories, queries.end - queries.start
    who = np.repeat(np.arange(len(queries)), count)
    event = np.repeat(queries.start, count) + concat_ranges(count)
    time = past.time[event]
    newest = np.where(count > 0, past.time[queries.end - 1], queries.time) if len(past.time) else queries.time
    gap = np.diff(time, prepend=0)
    gap[np.flatnonzero(np.diff(who, prepend=-1))] = 0  # the first event finds a newcomer
    given = (users < 0)[who]
    told = InterestState(chain._replace(evidence=evidence), len(queries))
    told.observe_many(who[given], past.item[event[given]], gap[given])
    followed = users >= 0
    told.rows[followed] = beliefs.rows[users[followed]]
    return told.interest(np.arange(len(queries)), queries.time - newest)
