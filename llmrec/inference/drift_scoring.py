"""Log-probabilities by a drift head: of all items for histories, and of items that are in no catalog.

An item that is not in the catalog has the probability that it would have if it alone were added: it has no events, and
becomes a text neighbor of items that it is similar enough to.
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

MAX_BATCH_SCORES = 1 << 24  # scores of (history, item) that are held together: 64 MiB in fp32


def iterate_contexts(catalog: ServedCatalog, live: LiveUsers, batch: QueryBatch) -> Iterator[tuple[Rows, DriftContext]]:
    """Split a batch of histories into contexts; hold the lock of `live` meanwhile.

    Counts include all events observed so far: for a query time before the newest event they are as of just after it.

    Args:
        catalog: The items.
        live: Counts and live users.
        batch: B histories.

    Yields:
        Rows of the batch, and their context.
    """
    newest = live.state.counts_at(0).moment or 0
    moments = np.maximum(batch.queries.time, newest)
    new_items = _NewItems.from_texts(catalog, live, batch.texts)
    most = max(MAX_BATCH_SCORES // max(len(catalog), 1), 1)
    for moment in np.unique(moments):
        rows = np.flatnonzero(moments == moment)
        for start in range(0, len(rows), most):
            chunk = rows[start : start + most]
            yield (
                chunk,
                _build_context(catalog, live, batch.queries.take(chunk), batch.users[chunk], int(moment), new_items),
            )


@torch.no_grad()
def rank_by_log_probability(
    catalog: ServedCatalog, live: LiveUsers, batch: QueryBatch, k: int, exclude: RowPairs | None, bias: Tensor
) -> TopK:
    """Return the k items with the largest log-probability plus bias for each history.

    Args:
        catalog: The items.
        live: Counts and live users.
        batch: B histories.
        k: Items per history.
        exclude: (query, item) pairs to leave out, such as items already seen.
        bias: Added to the log-probabilities, (N,); -inf excludes an item.

    Returns:
        Scores and rows, (B, k) each, best first.
    """
    size = len(batch.queries), min(k, len(catalog))
    found = TopK(torch.full(size, -torch.inf), torch.zeros(size, dtype=torch.int64))
    for rows, context in iterate_contexts(catalog, live, batch):
        scores, place = context.log_probabilities() + bias, torch.from_numpy(rows)
        if exclude is not None:
            in_context = torch.isin(exclude.query, place)
            scores[torch.searchsorted(place, exclude.query[in_context]), exclude.item[in_context]] = -torch.inf
        found.score[place], found.item[place] = scores.topk(size[1], dim=1)
    return found


@torch.no_grad()
def score_items(
    catalog: ServedCatalog, live: LiveUsers, batch: QueryBatch, items: Sequence[Sequence[Item]]
) -> list[list[float]]:
    """Return the log-probability of each of some items for each history.

    Args:
        catalog: The items.
        live: Counts and live users.
        batch: B histories.
        items: Items to score, a list for each history.

    Returns:
        A list of scores for each history.
    """
    scores: list[list[float]] = [[] for _ in items]
    for rows, context in iterate_contexts(catalog, live, batch):
        log_probabilities = context.log_probabilities()
        for place, row in enumerate(rows.tolist()):
            scores[row] = _score_history(catalog, context, place, log_probabilities[place], items[row])
    return scores


def _score_history(
    catalog: ServedCatalog, context: DriftContext, place: int, log_probabilities: Tensor, items: Sequence[Item]
) -> list[float]:
    """Score items for one history of a context, given the log-probabilities (N,) of the catalog."""
    rows, texts, listed = catalog.split_known_items(items)
    scores = torch.zeros(len(items))
    scores[listed] = log_probabilities[rows]
    if texts:
        alone = context.select(place)
        state = catalog.scorer.encode_histories(alone.queries, alone.cold)  # (1, D)
        own = (
            catalog.bundle.model.score(state, *catalog.scoring_vectors([{VERBATIM: text} for text in texts]))
            .float()
            .cpu()
        )
        scores[~listed] = alone.head.mix_log_probabilities(
            *alone.new_item_terms(own, untrained_text_vectors(catalog, texts))
        )[0]
    return list(scores.tolist())


@dataclass(frozen=True)
class _NewItems:
    """R texts in histories that are in no catalog.

    Attributes:
        cold: Item vectors of the model, (R, D_item).
        vectors: Unit vectors of the drift head, of the catalog and of these, (N + R, D).
        evidence: Evidence of interests, (N + R, K).
    """

    cold: Tensor | None
    vectors: Tensor | None
    evidence: Tensor | None

    @classmethod
    def from_texts(cls, catalog: ServedCatalog, live: LiveUsers, texts: list[str]) -> _NewItems:
        chain = live.state.stream.chain
        vectors = None if catalog.drift is None else catalog.drift.unit_vectors()
        evidence = None if chain is None else chain.evidence
        if not texts:
            return cls(None, vectors, evidence)
        new = untrained_text_vectors(catalog, texts)
        if new is not None and vectors is not None:
            vectors = torch.cat([vectors, new])
            evidence = None if chain is None or evidence is None else torch.cat([evidence, chain.chain.evidence(new)])
        return cls(catalog.cold_item_vectors(texts), vectors, evidence)


def untrained_text_vectors(catalog: ServedCatalog, texts: list[str]) -> Tensor | None:
    """Return the drift head's unit vectors of texts, (R, D); None for a bundle on ids alone."""
    if catalog.drift is None or catalog.drift.text is None:
        return None
    return catalog.drift.unit_vectors(catalog.encode_texts_untrained(texts))


@torch.no_grad()
def _build_context(
    catalog: ServedCatalog, live: LiveUsers, queries: Queries, users: Rows, moment: int, new_items: _NewItems
) -> DriftContext:
    state, stream = live.state, live.state.stream
    counts = state.counts_at(moment)
    return DriftContext(
        state.head,
        queries,
        build_recent_events(queries, stream.trained_until),
        catalog.scorer.score(queries, new_items.cold),
        environment_counts(counts),
        _add_transition_rows(transition_rows(counts, stream), new_items.vectors, stream.config.n_text_neighbors),
        stream.chain,
        _compute_interest(live, queries, users, new_items.evidence),
        new_items.vectors,
        new_items.cold,
        stream.config.n_text_neighbors,
    )


def _add_transition_rows(transitions: TransitionRows, vectors: Tensor | None, n_neighbors: int) -> TransitionRows:
    """Add empty rows for the texts that are in no catalog."""
    n_items = len(transitions.row_sums)
    if vectors is None or len(vectors) == n_items:
        return transitions
    near = find_new_item_neighbors(vectors[:n_items], vectors[n_items:], n_neighbors)
    text = sparse.vstack([transitions.text, near], format="csr")
    tables = [resize_sparse(table, (len(vectors), n_items)) for table in transitions.tables]
    return TransitionRows(tables, np.pad(transitions.row_sums, (0, len(vectors) - n_items)), transitions.fading, text)


def _compute_interest(live: LiveUsers, queries: Queries, users: Rows, evidence: Tensor | None) -> Tensor | None:
    """Return interests, (B, K), by all events of a live user ever observed, or by all events of a given history."""
    chain, beliefs = live.state.stream.chain, live.state.beliefs
    if chain is None or beliefs is None or evidence is None:
        return None
    past, count = queries.histories, queries.end - queries.start
    who = np.repeat(np.arange(len(queries)), count)
    event = np.repeat(queries.start, count) + concat_ranges(count)
    time = past.time[event]
    newest = np.where(count > 0, past.time[queries.end - 1], queries.time) if len(past.time) else queries.time
    gap = np.diff(time, prepend=0)
    gap[np.flatnonzero(np.diff(who, prepend=-1))] = 0  # the first event starts from a new user's belief
    given = (users < 0)[who]
    state = InterestState(chain._replace(evidence=evidence), len(queries))
    state.observe_many(who[given], past.item[event[given]], gap[given])
    followed = users >= 0
    state.rows[followed] = beliefs.rows[users[followed]]
    return state.interest(np.arange(len(queries)), queries.time - newest)
