"""Build explanations from parts, events and the transitions of other users, in numbers and words."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from llmrec.config.drift import ExplanationTerm
from llmrec.data.ids import format_id, is_id
from llmrec.data.interactions import Interactions
from llmrec.drift.terms import BY_NAME, transitions
from llmrec.drift.terms.pair_counts import NO_USER
from llmrec.drift.terms.term_inputs import ExplainTarget
from llmrec.drift.user_profile import recent_window_days, users_with_transition
from llmrec.inference.drift_scoring import iterate_contexts
from llmrec.inference.explanations.decompose import ExplainRequest, decompose
from llmrec.inference.explanations.explanation import Explanation, ExplanationPart, PastEvent
from llmrec.inference.explanations.sentences import compose_sentence
from llmrec.inference.explanations.token_attribution import attribute_tokens
from llmrec.inference.live.users import LiveUsers
from llmrec.inference.queries import VERBATIM, Item, QueryBatch
from llmrec.inference.score_units import ScoreUnit
from llmrec.inference.seen_gains import SeenGains
from llmrec.inference.served_catalog import ServedCatalog
from llmrec.utils.arrays import Rows
from llmrec.utils.units import SECONDS_PER_DAY


def build_explanation(
    catalog: ServedCatalog,
    live: LiveUsers | None,
    batch: QueryBatch,
    item: Item,
    *,
    most: int,
    score: float,
    gains: SeenGains | None,
    tokens: bool = False,
) -> Explanation:
    """Explain the score of an item.

    Args:
        catalog: Items and their vectors.
        live: Counts and live users; None without a drift head.
        batch: One history.
        item: Id of a catalog item, or the fields of another one.
        most: Last events to explain at most.
        score: Score of the item.
        gains: What items of the history gain; None if the model does not weigh them.
        tokens: Also attribute the score to the tokens of the item's text.

    Returns:
        The explanation.

    Raises:
        DataError: If the id is unknown.
        ConfigError: If tokens are requested and captum is not installed.
    """
    context = None if live is None else next(iterate_contexts(catalog, live, batch))[1]
    request = ExplainRequest.from_history(catalog, batch, item, most, context=context, gains=gains)
    target = request.to_target()
    parts, at = tuple(decompose(request, target)), int(batch.queries.time[0])
    points = math.fsum(part.points for part in parts)
    unit: ScoreUnit = "logit" if context is None else "log_probability"
    start, total = (score - points, score) if context is None else (0.0, points)
    events = _collect_past_events(request, parts)
    position, n_people, days = (None, 0, 0) if live is None else _find_people(request, live, parts, at)
    name = format_id(item) if is_id(item) else request.text
    found = Explanation(name, catalog.label(item), at, score, unit, total, start, parts, events, n_people, days)
    reasons = _give_reasons(request, target, parts)
    read = attribute_tokens(catalog, batch, item) if tokens else ()
    return replace(found, sentence=compose_sentence(found, reasons, moved_from=position), tokens=read)


def _give_reasons(
    request: ExplainRequest, target: ExplainTarget, parts: tuple[ExplanationPart, ...]
) -> dict[ExplanationTerm, str]:
    """Return the reasons of the parts of no single event, by term."""
    found: dict[ExplanationTerm, str] = {}
    for term in dict.fromkeys(part.term for part in parts if part.event is None):
        reason = BY_NAME[term].implementation.give_reason(request.context, target)
        if reason is not None:
            found[term] = reason
    return found


def _find_people(
    request: ExplainRequest, live: LiveUsers, parts: tuple[ExplanationPart, ...], at: int
) -> tuple[int | None, int, int]:
    """Return the event with the strongest transition, the users who made it, and in how many days."""
    stream = live.state.stream
    moves = [part for part in parts if part.term == transitions.NAME and part.event is not None]
    position, days = None, recent_window_days(stream.transition_half_life_days)
    if moves:
        position = max(moves, key=lambda part: part.points).event
    if position is None or request.row is None:
        return position, 0, days
    source = int(request.batch.queries.histories.item[request.events[position]])
    return (
        position,
        _count_people(live, source, request.row, at - days * SECONDS_PER_DAY, window=stream.config.window),
        days,
    )


def _collect_past_events(request: ExplainRequest, parts: tuple[ExplanationPart, ...]) -> tuple[PastEvent, ...]:
    """Return the explained events, each with the points of all its parts."""
    past, catalog = request.batch.queries.histories, request.catalog
    points = np.zeros(len(request.events))
    for part in parts:
        if part.event is not None:
            points[part.event] += part.points
    found = []
    for event, own in zip(request.events.tolist(), points.tolist(), strict=True):
        row = int(past.item[event])
        known = row < len(catalog.items)
        name = str(catalog.items.ids[row]) if known else request.batch.texts[row - len(catalog.items)]
        label = catalog.items.label(row) if known else catalog.label({VERBATIM: name})
        found.append(PastEvent(name, label, int(past.time[event]), own))
    return tuple(found)


def _count_people(live: LiveUsers, source: int, target: int, since: int, *, window: int) -> int:
    """Count live users who went from one item to another, by their last events."""
    last = live.state.last
    who = np.flatnonzero(((last.item == target) & (last.time >= since)).any(1))
    item: Rows = last.item[who]
    known = item != NO_USER
    user = np.broadcast_to(who[:, None], item.shape)[known]
    return users_with_transition(
        Interactions.sort(user, item[known], last.time[who][known]), source, target, since, window=window
    )
