"""Divide an item's score into parts by term, and within terms by event of the history.

Without a drift head, score = that of an item of average probability + the model's expectation for any user + the change
by the history, in log-odds. The change by the history is divided by leaving out one event at a time, all in one batch;
the rest, since some events matter only together, belongs to no event.

With a drift head, the probability is a sum already, given the shares of the gate:

    p(i|u,t) = a B(i|u,t) + b sum_j w_uj p(i|j,t) + c sum_k s_uk p(i|k,t)

The parts other than the base divide themselves by event, see `DriftTerm.explain`; these are exact. B is a softmax, and
its parts are attributions: log B N is divided as above, followed by the change by each logit term. Each part gets its
share of B by the logarithmic mean (Ang 2004, doi:10.1016/j.enpol.2003.10.010), which adds up to B - 1/N exactly; 1/N,
which any item has, goes to the expectation for any user.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from llmrec.config.drift import ExplanationTerm
from llmrec.data.histories import Histories, Queries
from llmrec.data.ids import is_id
from llmrec.drift.mixture import DriftContext, select_items
from llmrec.drift.terms.base import ANYONE, BASE, SEEN
from llmrec.drift.terms.term_inputs import ExplainTarget
from llmrec.inference.drift_scoring import untrained_text_vectors
from llmrec.inference.explanations.explanation import ExplanationPart
from llmrec.inference.queries import VERBATIM, Item, QueryBatch, find_item_rows, render_item_text
from llmrec.inference.seen_gains import SeenGains
from llmrec.inference.served_catalog import ServedCatalog
from llmrec.utils.arrays import Rows


@dataclass(frozen=True)
class ExplainRequest:
    """A history and the item to explain for it."""

    catalog: ServedCatalog
    """Items and their vectors."""
    batch: QueryBatch
    """Batch of the one history."""
    row: int | None
    """Catalog row of the item; None for an item outside the catalog."""
    text: str
    """Text of the item."""
    events: Rows
    """Positions of the explained events in the history, the last ones, (E,)."""
    context: DriftContext | None
    """Context of the drift head; None without one."""
    gains: SeenGains | None
    """What items of the history gain; None if the model does not weigh them."""
    gain: float
    """What the item gains, 0 if the history does not hold it."""

    @classmethod
    def from_history(
        cls,
        catalog: ServedCatalog,
        batch: QueryBatch,
        item: Item,
        most: int,
        *,
        context: DriftContext | None,
        gains: SeenGains | None,
    ) -> ExplainRequest:
        """Build the request for an item.

        Args:
            catalog: Items and their vectors.
            batch: One history.
            item: Id of a catalog item, or the fields of another one.
            most: Events to explain at most.
            context: Context of the drift head; None without one.
            gains: What items of the history gain; None if the model does not weigh them.

        Returns:
            The request.

        Raises:
            DataError: If the id is unknown or the fields make no text.
        """
        row, text = None, ""
        if is_id(item):
            row = int(find_item_rows(catalog.items, [item])[0])
            text = str(catalog.items.text_array[row])
        else:
            text = render_item_text(catalog.items, item)
        first, end = int(batch.queries.start[0]), int(batch.queries.end[0])
        gain = 0.0 if gains is None else float(gains.of_items(0, [item]))
        return cls(catalog, batch, row, text, np.arange(max(first, end - most), end), context, gains, gain)

    def to_target(self) -> ExplainTarget:
        """Convert the item to the form that drift terms explain.

        Returns:
            The item, with text vectors if it is outside the catalog.
        """
        vectors = untrained_text_vectors(self.catalog, [self.text]) if self.row is None else None
        return ExplainTarget(self.row, vectors, self.events, self.batch.queries)


@torch.no_grad()
def decompose(request: ExplainRequest, target: ExplainTarget) -> list[ExplanationPart]:
    """Divide the item's probability, or, without a drift head, its score above that of an average item.

    Args:
        request: The history and the item.
        target: The item as drift terms read it.

    Returns:
        Parts, which add up to the probability, or to the difference of scores.
    """
    context, base = request.context, _divide_base(request)
    if context is None:
        return base
    own, *shares = context.log_mixture_shares()[0].double().exp().tolist()
    found = _to_probability(base, own, len(request.catalog.items))
    for part, share in zip(context.head.parts[1:], shares, strict=True):
        if part.name in context.head.terms:
            explained = part.implementation.explain(context, target)
            found += [
                ExplanationPart(part.name, position, share * chance, exact=True) for position, chance in explained
            ]
    return found


def _divide_base(request: ExplainRequest) -> list[ExplanationPart]:
    """Divide log B N in log-odds: by any user, each event, events together, and each logit term."""
    plain, tilted = _log_base(request, _leave_one_out_queries(request))
    full, empty, without = float(plain[0]), float(plain[1]), plain[2:].tolist()
    alone = [full - less for less in without]
    found = [ExplanationPart(ANYONE, None, empty + math.log(len(request.catalog.items)), exact=False)]
    found += [ExplanationPart(BASE, position, change, exact=False) for position, change in enumerate(alone)]
    if alone:
        found.append(ExplanationPart(BASE, None, full - empty - sum(alone), exact=False))
    for (name, after), before in zip(tilted.items(), [full, *tilted.values()], strict=False):
        found.append(ExplanationPart(name, None, after - before, exact=False))
    return found


def _to_probability(found: list[ExplanationPart], share: float, n_items: int) -> list[ExplanationPart]:
    """Convert parts of log B N to parts of `share` times B."""
    average = -math.log(n_items)
    scale = share * _logarithmic_mean(math.fsum(part.points for part in found) + average, average)
    own = {ANYONE: share / n_items}
    return [replace(part, points=scale * part.points + own.get(part.term, 0.0)) for part in found]


def _leave_one_out_queries(request: ExplainRequest) -> Queries:
    """Return the whole history, an empty one, and those without each of the events: (2 + E,)."""
    queries, past = request.batch.queries, request.batch.queries.histories
    whole = np.arange(int(queries.start[0]), int(queries.end[0]))
    kept = [whole, whole[:0], *(whole[whole != event] for event in request.events)]
    lengths = np.array([len(events) for events in kept])
    offset, event = np.concatenate([[0], np.cumsum(lengths)]), np.concatenate(kept)
    histories = Histories(past.item[event], past.time[event], offset, event)
    user, time = np.arange(len(kept)), np.full(len(kept), queries.time[0])
    return Queries(histories, user, time, np.zeros_like(user), offset[:-1], offset[1:])


def _log_base(request: ExplainRequest, queries: Queries) -> tuple[Tensor, dict[ExplanationTerm, float]]:
    """Return log B of the item without logit terms and gains, (M,), and of the first query after each of them."""
    catalog, context, model = request.catalog, request.context, request.catalog.bundle.model
    states = catalog.scorer.encode_histories(queries, catalog.cold_item_vectors(request.batch.texts))
    scores = model.score(states, catalog.scorer.scoring_items, model.items.known).cpu().double()  # (M, N)
    if request.row is None:
        own = model.score(states, *catalog.scoring_vectors([{VERBATIM: request.text}])).cpu().double()[:, 0]
    else:
        own = scores[:, request.row]
    sharpness = 1.0 if context is None else float(context.head.log_sharpness.double().exp())
    plain, tilted = _log_share(scores * sharpness, own * sharpness, request.row), dict[ExplanationTerm, float]()
    scores, own = scores[:1], own[:1]
    if request.gains is not None:
        scores, own = _add_gains(request.gains, scores), own + request.gain
        # Where the item is not in the history, it gains by what other items lose.
        name = SEEN if request.gain else BASE
        tilted[name] = float(_log_share(scores * sharpness, own * sharpness, request.row)[0])
    if context is None:
        return plain, tilted
    rows = None if request.row is None else [request.row]
    logits = context.head.iterate_base_logits(scores.float(), context.views)
    own_logits = context.head.iterate_base_logits(own[:, None].float(), select_items(context.views, rows))
    for (name, of_all), (_, of_own) in zip(logits, own_logits, strict=True):
        if name != BASE:
            tilted[name] = float(_log_share(of_all.double(), of_own.double()[:, 0], request.row)[0])
    return plain, tilted


def _add_gains(gains: SeenGains, scores: Tensor) -> Tensor:
    """Return the scores (1, N) of a history with the gains of its items."""
    pairs, gain = gains.list_catalog_pairs()
    return scores.index_add(1, pairs.item, gain[None].to(scores))


def _log_share(logits: Tensor, own: Tensor, row: int | None) -> Tensor:
    """Return the log softmax (M,) of an item with logits `own` (M,), in the catalog (M, N) or added to it."""
    total = logits.logsumexp(1)
    return own - (total if row is not None else torch.logaddexp(total, own))


def _logarithmic_mean(log_one: float, log_other: float) -> float:
    """Compute (x - y) / (log x - log y) from the logarithms of x and y."""
    change = log_one - log_other
    return math.exp(log_other) * (math.expm1(change) / change if change else 1.0)
