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
from llmrec.drift.head import Moves
from llmrec.drift.mixture import Situation, counts_of, moves_of, recent_of
from llmrec.drift.text_neighbors import foreign_neighbours
from llmrec.inference.live.interest_state import Beliefs
from llmrec.inference.live.users import Live
from llmrec.inference.queries import VERBATIM, Asked, Item
from llmrec.inference.served_catalog import ItemVectors
from llmrec.search.topk import Found, Pairs
from llmrec.utils.arrays import Rows, aranges, with_size

CELLS_AT_ONCE = 1 << 24  # scores of (history, item): 64 MiB in fp32


def situations(items: ItemVectors, live: Live, asked: Asked) -> Iterator[tuple[Rows, Situation]]:
    """Rows of histories that were read, some at a time, and how things stand for them. Hold the lock of `live`.

    Counts are everyone's up to now: a moment before the newest event is met with them as of just after that event.
    """
    newest = live.state.world(0).moment or 0
    moments = np.maximum(asked.queries.time, newest)
    foreign = _Foreign.of(items, live, asked.texts)
    most = max(CELLS_AT_ONCE // max(len(items.catalog), 1), 1)
    for moment in np.unique(moments):
        rows = np.flatnonzero(moments == moment)
        for start in range(0, len(rows), most):
            some = rows[start : start + most]
            yield some, _situation(items, live, asked.queries.take(some), asked.users[some], int(moment), foreign)


@torch.no_grad()
def ranked_by_chance(
    items: ItemVectors, live: Live, asked: Asked, k: int, without: Pairs | None, bias: Tensor
) -> Found:
    """The k best of the mixture's log chances and `bias` (N,) for each history; without: what is not given to whom."""
    size = len(asked.queries), min(k, len(items.catalog))
    found = Found(torch.full(size, -torch.inf), torch.zeros(size, dtype=torch.int64))
    for rows, situation in situations(items, live, asked):
        scores, place = situation.log_chances() + bias, torch.from_numpy(rows)
        if without is not None:
            mine = torch.isin(without.query, place)
            scores[torch.searchsorted(place, without.query[mine]), without.item[mine]] = -torch.inf
        found.score[place], found.item[place] = scores.topk(size[1], dim=1)
    return found


@torch.no_grad()
def log_chances_of(items: ItemVectors, live: Live, asked: Asked, wanted: Sequence[Sequence[Item]]) -> list[list[float]]:
    """The mixture's log chances of the items that are wanted of each history."""
    found: list[list[float]] = [[] for _ in wanted]
    for rows, situation in situations(items, live, asked):
        chances = situation.log_chances()
        for place, row in enumerate(rows.tolist()):
            found[row] = _told(items, situation, place, chances[place], wanted[row])
    return found


def _told(items: ItemVectors, situation: Situation, place: int, chances: Tensor, wanted: Sequence[Item]) -> list[float]:
    """Of one history, at a place in the situation: chances (N,) of the catalog."""
    rows, texts, listed = items.told_apart(wanted)
    scores = torch.zeros(len(wanted))
    scores[listed] = chances[rows]
    if texts:
        alone = situation.take(place)
        state = items.scorer.states(alone.queries, alone.cold)  # (1, D)
        own = items.bundle.model.scores(state, *items.scoring([{VERBATIM: text} for text in texts])).float().cpu()
        scores[~listed] = alone.head.mix(*alone.foreign(own, vectors_of(items, texts)))[0]
    return list(scores.tolist())


@dataclass(frozen=True)
class _Foreign:
    """Texts (R) that histories hold beside the catalog: item vectors (R, D_item), as the model below knows them, and
    with the catalog's the vectors (N + R, D) of the drift head and its evidence (N + R, K).
    """

    cold: Tensor | None
    vectors: Tensor | None
    evidence: Tensor | None

    @classmethod
    def of(cls, items: ItemVectors, live: Live, texts: list[str]) -> _Foreign:
        chain = live.state.stream.chain
        vectors = None if items.drift is None else items.drift.vectors()
        evidence = None if chain is None else chain.evidence
        if not texts:
            return cls(None, vectors, evidence)
        new = vectors_of(items, texts)
        if new is not None and vectors is not None:
            vectors = torch.cat([vectors, new])
            evidence = None if chain is None or evidence is None else torch.cat([evidence, chain.chain.evidence(new)])
        return cls(items.cold(texts), vectors, evidence)


def vectors_of(items: ItemVectors, texts: list[str]) -> Tensor | None:
    """(R, D) of texts in no catalog, as the drift head knows items; None for a bundle on ids alone."""
    if items.drift is None or items.drift.text is None:
        return None
    return items.drift.vectors(items.read_untrained(texts))


@torch.no_grad()
def _situation(
    items: ItemVectors, live: Live, queries: Queries, users: Rows, moment: int, foreign: _Foreign
) -> Situation:
    state, stream = live.state, live.state.stream
    world = state.world(moment)
    return Situation(
        state.head,
        queries,
        recent_of(queries, stream.trained_until),
        items.scorer.scores(queries, foreign.cold),
        counts_of(world),
        _moves(moves_of(world, stream), foreign.vectors, stream.config.text_neighbours),
        stream.chain,
        _interest(live, queries, users, foreign.evidence),
        foreign.vectors,
        foreign.cold,
        stream.config.text_neighbours,
    )


def _moves(moves: Moves, vectors: Tensor | None, n_neighbours: int) -> Moves:
    """With rows for the texts that are in no catalog: nobody went on from them."""
    n_items = len(moves.row_sums)
    if vectors is None or len(vectors) == n_items:
        return moves
    near = foreign_neighbours(vectors[:n_items], vectors[n_items:], n_neighbours)
    text = sparse.vstack([moves.text, near], format="csr")
    tables = [with_size(table, (len(vectors), n_items)) for table in moves.tables]
    return Moves(tables, np.pad(moves.row_sums, (0, len(vectors) - n_items)), moves.fading, text)


def _interest(live: Live, queries: Queries, users: Rows, evidence: Tensor | None) -> Tensor | None:
    """(B, K) by all that a live user ever did, or by all events that were given."""
    chain, beliefs = live.state.stream.chain, live.state.beliefs
    if chain is None or beliefs is None or evidence is None:
        return None
    past, count = queries.histories, queries.end - queries.start
    who = np.repeat(np.arange(len(queries)), count)
    event = np.repeat(queries.start, count) + aranges(count)
    time = past.time[event]
    newest = np.where(count > 0, past.time[queries.end - 1], queries.time) if len(past.time) else queries.time
    gap = np.diff(time, prepend=0)
    gap[np.flatnonzero(np.diff(who, prepend=-1))] = 0  # the first event finds a newcomer
    given = (users < 0)[who]
    told = Beliefs(chain._replace(evidence=evidence), len(queries))
    told.observe_many(who[given], past.item[event[given]], gap[given])
    followed = users >= 0
    told.rows[followed] = beliefs.rows[users[followed]]
    return told.interest(np.arange(len(queries)), queries.time - newest)
