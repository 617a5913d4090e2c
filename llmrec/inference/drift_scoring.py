"""Log-probabilities by a drift head: of all items for histories, and of items that are in no catalog.

An item that is not in the catalog has the probability that it would have if it alone were added: it has no events, and
becomes a text neighbor of items that it is similar enough to.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from llmrec.config.drift import TermName
from llmrec.data.histories import Queries
from llmrec.drift.mixture import DriftContext, build_recent_events, read_views
from llmrec.drift.stream import ReplayStream
from llmrec.drift.terms import SWITCHES
from llmrec.inference.live.online_state import OnlineState
from llmrec.inference.live.users import LiveUsers
from llmrec.inference.queries import VERBATIM, Item, QueryBatch
from llmrec.inference.seen_gains import SeenGains
from llmrec.inference.served_catalog import ServedCatalog
from llmrec.search.row_pairs import RowPairs
from llmrec.search.topk import TopK
from llmrec.utils.arrays import Rows, concat_ranges

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
    state = live.state if (batch.users >= 0).any() else live.counting_state
    newest = state.counts_at(0).moment or 0
    moments = np.maximum(batch.queries.time, newest)
    new_items = _NewItems.from_texts(catalog, state, batch.texts)
    most = max(MAX_BATCH_SCORES // max(len(catalog), 1), 1)
    for moment in np.unique(moments):
        rows = np.flatnonzero(moments == moment)
        for start in range(0, len(rows), most):
            chunk = rows[start : start + most]
            queries, users = batch.queries.take(chunk), batch.users[chunk]
            yield chunk, _build_context(catalog, state, queries, users, moment=int(moment), new_items=new_items)


@torch.no_grad()
def rank_by_log_probability(
    catalog: ServedCatalog, live: LiveUsers, batch: QueryBatch, k: int, *, exclude: RowPairs | None, bias: Tensor
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
    gains = SeenGains.from_batch(catalog, live, batch)
    for rows, context in iterate_contexts(catalog, live, batch):
        log_probabilities = context.log_probabilities()
        for place, row in enumerate(rows.tolist()):
            gain = None if gains is None else gains.of_items(row, items[row])
            own = log_probabilities[place]
            scores[row] = _score_history(catalog, context, place, own, items=items[row], gain=gain)
    return scores


def _score_history(
    catalog: ServedCatalog,
    context: DriftContext,
    place: int,
    log_probabilities: Tensor,
    *,
    items: Sequence[Item],
    gain: Tensor | None,
) -> list[float]:
    """Score items for one history of a context, given the log-probabilities (N,) of the catalog and gains (C,)."""
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
        if gain is not None:
            own = own + gain[~listed]
        scores[~listed] = alone.mix(alone.new_item_terms(own, untrained_text_vectors(catalog, texts)))[0]
    return list(scores.tolist())


@dataclass(frozen=True)
class _NewItems:
    """R texts in histories that are in no catalog.

    Attributes:
        cold: Item vectors of the model, (R, D_item).
        vectors: Unit vectors of the drift head, of the catalog and of these, (N + R, D).
        stream: The live stream, whose tables know these texts too.
    """

    cold: Tensor | None
    vectors: Tensor | None
    stream: ReplayStream

    @classmethod
    def from_texts(cls, catalog: ServedCatalog, state: OnlineState, texts: list[str]) -> _NewItems:
        stream = state.stream
        vectors = None if catalog.drift is None else catalog.drift.unit_vectors()
        if not texts:
            return cls(None, vectors, stream)
        new = untrained_text_vectors(catalog, texts)
        if new is not None and vectors is not None:
            vectors, stream = torch.cat([vectors, new]), stream.with_texts(new)
        return cls(catalog.cold_item_vectors(texts), vectors, stream)


def untrained_text_vectors(catalog: ServedCatalog, texts: list[str]) -> Tensor | None:
    """Return the unit vectors of the drift head for texts.

    Args:
        catalog: Encodes the texts.
        texts: R texts.

    Returns:
        (R, D), or None for a bundle on ids alone.
    """
    if catalog.drift is None or catalog.drift.text is None:
        return None
    return catalog.drift.unit_vectors(catalog.text_space.encode_untrained(texts))


@torch.no_grad()
def _build_context(
    catalog: ServedCatalog, state: OnlineState, queries: Queries, users: Rows, *, moment: int, new_items: _NewItems
) -> DriftContext:
    stream, vectors = state.stream, new_items.vectors
    recent = build_recent_events(queries, stream.trained_until)
    states = _compute_states(state, queries, users, new_items.stream)
    views = read_views(state.head.terms, stream, state.counts_at(moment), recent, states=states)
    if vectors is not None and len(vectors) > stream.n_items:
        n_neighbors = stream.config.n_text_neighbors
        views = {name: SWITCHES[name].add_texts(view, vectors, n_neighbors) for name, view in views.items()}
    scores = catalog.scorer.score(queries, new_items.cold, older=state.seen.list_pairs(users))
    return DriftContext(state.head, recent, views, vectors, stream.config, scores, queries, new_items.cold)


def _compute_states(state: OnlineState, queries: Queries, users: Rows, stream: ReplayStream) -> dict[TermName, Tensor]:
    """Return each term's state, (B, ...): of a live user by all events ever observed, else by the history."""
    past, count = queries.histories, queries.end - queries.start
    who = np.repeat(np.arange(len(queries)), count)
    event = np.repeat(queries.start, count) + concat_ranges(count)
    time = past.time[event]
    newest = np.where(count > 0, past.time[queries.end - 1], queries.time) if len(past.time) else queries.time
    gap = np.diff(time, prepend=0)
    gap[np.flatnonzero(np.diff(who, prepend=-1))] = 0  # the first event starts from the state of a new user
    given, followed = (users < 0)[who], users >= 0
    found: dict[TermName, Tensor] = {}
    for name, known in state.users.items():
        states = SWITCHES[name].new_users(stream, len(queries))
        if states is not None:
            states.observe_many(who[given], past.item[event[given]], gap[given])
            states.copy_rows(np.flatnonzero(followed), known, users[followed])
            found[name] = states.read(np.arange(len(queries)), queries.time - newest)
    return found
