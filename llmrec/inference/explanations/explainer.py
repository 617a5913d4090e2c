"""Explanations, put together: parts, events and people's doings, in numbers and in words."""

from __future__ import annotations

import numpy as np

from llmrec.data.interactions import Interactions
from llmrec.drift.terms.transitions import NO_USER
from llmrec.drift.user_profile import recent_window_days, users_with_transition
from llmrec.inference.drift_scoring import iterate_contexts
from llmrec.inference.explanations.decompose import ExplainRequest, decompose, to_parts
from llmrec.inference.explanations.explanation import Explanation, ExplanationPart, PastEvent
from llmrec.inference.explanations.sentences import compose_sentence, describe_popularity
from llmrec.inference.explanations.token_attribution import attribute_tokens
from llmrec.inference.live.users import LiveUsers
from llmrec.inference.queries import VERBATIM, Item, QueryBatch
from llmrec.inference.served_catalog import ServedCatalog
from llmrec.utils.arrays import Rows
from llmrec.utils.units import SECONDS_PER_DAY


def build_explanation(
    items: ServedCatalog,
    live: LiveUsers | None,
    batch: QueryBatch,
    item: Item,
    most: int,
    score: float,
    tokens: bool = False,
) -> Explanation:
    """Of one history. live: None without a drift head. most: last events that are told of. score: of the item. tokens:
    also what the words of the item's text add.
    """
    context = None if live is None else next(iterate_contexts(items, live, batch))[1]
    request = ExplainRequest.from_history(items, batch, item, most, context)
    parts, start, chance = to_parts(decompose(request), score, len(items.items))
    events = _collect_past_events(request, parts, chance)
    at, popular, position, n_people, days = int(batch.queries.time[0]), "is popular", None, 0, 0
    if context is not None and live is not None:
        stream, row = live.state.stream, request.row
        own = context.counts[:, row] if row is not None else context.counts[:, 0] * 0
        popular = describe_popularity(context.head.eta, context.counts, own, stream.config.half_lives_days)
        position, days = _strongest_transition(parts), recent_window_days(stream.transition_half_life_days)
        if position is not None and row is not None:
            source = int(batch.queries.histories.item[request.events[position]])
            n_people = _count_people(live, source, row, at - days * SECONDS_PER_DAY, stream.config.window)
    words = compose_sentence(parts, events, at, popular, (position, n_people, days))
    name = item if isinstance(item, str) else request.text
    read = attribute_tokens(items, batch, item) if tokens else ()
    return Explanation(name, items.label(item), at, score, start, chance, parts, events, n_people, days, words, read)


def _collect_past_events(
    request: ExplainRequest, parts: tuple[ExplanationPart, ...], chance: float
) -> tuple[PastEvent, ...]:
    """The events that are told of, each with what all its parts give."""
    past, items = request.asked.queries.histories, request.items
    shares = np.zeros(len(request.events))
    for part in parts:
        if part.event is not None:
            shares[part.event] += part.chance / chance
    found = []
    for event, share in zip(request.events.tolist(), shares.tolist(), strict=True):
        row = int(past.item[event])
        known = row < len(items.items)
        name = str(items.items.ids[row]) if known else request.asked.texts[row - len(items.items)]
        label = items.items.label(row) if known else items.label({VERBATIM: name})
        found.append(PastEvent(name, label, int(past.time[event]), share))
    return tuple(found)


def _strongest_transition(parts: tuple[ExplanationPart, ...]) -> int | None:
    transitions = [part for part in parts if part.term == "transitions" and part.event is not None]
    return max(transitions, key=lambda part: part.chance).event if transitions else None


def _count_people(live: LiveUsers, source: int, target: int, since: int, window: int) -> int:
    """Live users who went on from one item to another, as far as their last events are known."""
    last = live.state.last
    who = np.flatnonzero(((last.item == target) & (last.time >= since)).any(1))
    item: Rows = last.item[who]
    known = item != NO_USER
    user = np.broadcast_to(who[:, None], item.shape)[known]
    return users_with_transition(
        Interactions.sort(user, item[known], last.time[who][known]), source, target, since, window
    )
