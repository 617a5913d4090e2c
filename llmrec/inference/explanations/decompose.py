"""Why an item has its score: the mixture taken apart, into its terms and within them into the events of the history.

    p(i|u,t) = a B(i|u,t) + b sum_j w_uj p(i|j,t) + c sum_k s_uk p(i|k,t)

is a sum as it stands, given the gate's shares. Transitions are a sum over events already, and so is the chain: an event
adds g p(.|j) to a belief, and what becomes of it is linear, so that the belief is unrolled into what is left of each
event and of the newcomer's (and of events beyond those that are kept). These parts are exact.

B is a softmax, and what events add to it is attribution, in this order: log B N = what the model expects of anybody +
what the history changes, first without the environment + what the environment's tilt then changes. The history's part
is told by leaving out one event at a time, all in one batch; what remains, as events say some things only together, is
a part of no event. Of B each has its share by the logarithmic mean (Ang 2004, doi:10.1016/j.enpol.2003.10.010), which
adds up to B - 1/N exactly; 1/N, which any item has, goes to what is expected of anybody.

A score is above that of an item of average chance by log N p; each part's value is that, by the part's share of p.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llmrec.data.histories import Histories, Queries
from llmrec.drift.markov_chain import propagate, to_ticks
from llmrec.drift.mixture import DriftContext
from llmrec.errors import DataError
from llmrec.inference.drift_scoring import untrained_text_vectors
from llmrec.inference.explanations.explanation import ExplanationPart, ExplanationTerm
from llmrec.inference.queries import VERBATIM, Item, QueryBatch, find_item_rows, render_item_text
from llmrec.inference.served_catalog import ServedCatalog
from llmrec.utils.arrays import Rows
from llmrec.utils.units import SECONDS_PER_DAY


@dataclass(frozen=True)
class ExplainRequest:
    """One history, and the item that is asked about: its catalog row, or what is written of it.

    events: (E,) places in the history of those that are told of, the last ones. situation: None without a drift head.
    """

    items: ServedCatalog
    asked: QueryBatch
    row: int | None
    text: str
    events: Rows
    situation: DriftContext | None

    @classmethod
    def from_history(
        cls, items: ServedCatalog, batch: QueryBatch, item: Item, most: int, context: DriftContext | None
    ) -> ExplainRequest:
        row, text = None, ""
        if isinstance(item, str):
            row = int(find_item_rows(items.items, [item])[0])
            text = str(items.items.text_array[row])
        else:
            text = render_item_text(items.items, item)
        first, end = int(batch.queries.start[0]), int(batch.queries.end[0])
        return cls(items, batch, row, text, np.arange(max(first, end - most), end), context)

    @property
    def vectors(self) -> Tensor | None:
        """(1, D) of an item in no catalog, as the drift head knows it."""
        return untrained_text_vectors(self.items, [self.text])


class ImprobableItemError(DataError):
    """An item whose chance is nothing beside the parts that it is the sum of."""


@dataclass(frozen=True)
class Contribution:
    """A part of the chance, before it is told."""

    term: ExplanationTerm
    event_index: int | None  # in the history's events
    chance: float
    exact: bool


@torch.no_grad()
def decompose(request: ExplainRequest) -> list[Contribution]:
    """All parts of the item's chance; without a drift head of its share of the softmax over the catalog."""
    context = request.situation
    if context is None:
        return _decompose_base(request, 1.0)
    own, onward, latent = context.log_mixture_shares()[0].double().exp().tolist()
    found = _decompose_base(request, own)
    if "transitions" in context.head.terms:
        found += [
            Contribution("transitions", position, onward * chance, True)
            for position, chance in _decompose_transitions(request, context)
        ]
    if context.interest is not None:
        found += [
            Contribution("chain", position, latent * chance, True)
            for position, chance in _decompose_chain(request, context)
        ]
    return found


def to_parts(
    found: Sequence[Contribution], score: float, n_items: int
) -> tuple[tuple[ExplanationPart, ...], float, float]:
    """Parts with their values, `start` and the chance. score: log chance, or a logit.

    Raises:
        ImprobableItemError: parts that cancel to within rounding.
    """
    chance = math.fsum(summand.chance for summand in found)
    if chance <= 0:
        raise ImprobableItemError("item", ["its chance is too small to be told in parts; ask about a likelier item"])
    above = math.log(chance * n_items)
    parts = [
        ExplanationPart(each.term, each.event_index, each.chance, each.chance / chance * above, each.exact)
        for each in found
    ]
    return tuple(parts), score - above, chance


def _decompose_base(request: ExplainRequest, share: float) -> list[Contribution]:
    """Of `share` times B: of anybody, of each event, of events together, and of the environment."""
    queries = _leave_one_out_queries(request)
    plain, tilted = _log_base(request, queries)
    average = -math.log(len(request.items.items))
    full, nobody, exclude = float(plain[0]), float(plain[1]), plain[2:].tolist()
    alone = [full - less for less in exclude]
    changes = {"anyone": nobody - average, "together": full - nobody - sum(alone), "environment": tilted - full}
    scale = share * _logarithmic_mean(tilted, average)
    found = [Contribution("anyone", None, share * math.exp(average) + scale * changes["anyone"], False)]
    found += [Contribution("base", position, scale * change, False) for position, change in enumerate(alone)]
    if alone:
        found.append(Contribution("base", None, scale * changes["together"], False))
    if request.situation is not None and "environment" in request.situation.head.terms:
        found.append(Contribution("environment", None, scale * changes["environment"], False))
    return found


def _leave_one_out_queries(request: ExplainRequest) -> Queries:
    """(2 + E,) the history whole, none of it, and all but one of its events each."""
    queries, past = request.asked.queries, request.asked.queries.histories
    whole = np.arange(int(queries.start[0]), int(queries.end[0]))
    kept = [whole, whole[:0], *(whole[whole != event] for event in request.events)]
    lengths = np.array([len(events) for events in kept])
    offset, event = np.concatenate([[0], np.cumsum(lengths)]), np.concatenate(kept)
    histories = Histories(past.item[event], past.time[event], offset, event)
    user, time = np.arange(len(kept)), np.full(len(kept), queries.time[0])
    return Queries(histories, user, time, np.zeros_like(user), offset[:-1], offset[1:])


def _log_base(request: ExplainRequest, queries: Queries) -> tuple[Tensor, float]:
    """(M,) log B of the item without the environment for each of the queries, and with it for the first."""
    items, context, model = request.items, request.situation, request.items.bundle.model
    states = items.scorer.encode_histories(queries, items.cold_item_vectors(request.asked.texts))
    scores = model.score(states, items.scorer.scoring_items, model.items.known).cpu().double()  # (M, N)
    if request.row is None:
        own = model.score(states, *items.scoring_vectors([{VERBATIM: request.text}])).cpu().double()[:, 0]
    else:
        own = scores[:, request.row]
    if context is None:
        plain = _log_share(scores, own, request.row)
        return plain, float(plain[0])
    sharpness = context.head.log_sharpness.double().exp()
    plain = _log_share(scores * sharpness, own * sharpness, request.row)
    if "environment" not in context.head.terms:
        return plain, float(plain[0])
    new = context.counts.new_zeros(len(context.counts), 1)
    counts = new if request.row is None else context.counts[:, [request.row]]
    tilted = context.head.base_logits(scores[:1].float(), context.counts).double()
    own_tilted = context.head.base_logits(own[:1, None].float(), counts).double()[:, 0]
    return plain, float(_log_share(tilted, own_tilted, request.row)[0])


def _log_share(logits: Tensor, own: Tensor, row: int | None) -> Tensor:
    """(M,) log softmax of an item with logits `own` (M,), as one of the catalog (M, N), or beside it."""
    total = logits.logsumexp(1)
    return own - (total if row is not None else torch.logaddexp(total, own))


def _logarithmic_mean(log_one: float, log_other: float) -> float:
    """(x - y) / (log x - log y), of x and y by their logarithms."""
    change = log_one - log_other
    return math.exp(log_other) * (math.expm1(change) / change if change else 1.0)


def _decompose_transitions(request: ExplainRequest, context: DriftContext) -> list[tuple[int, float]]:
    """What each of the last events gives by transitions."""
    recent, transitions = context.recent, context.moves
    here = recent.mask[0].nonzero().flatten()
    if not len(here):
        return []
    source = recent.item[0, here].numpy().copy()
    if request.row is None:
        count = np.zeros(len(source))
        vectors = request.vectors
        text = (
            np.zeros(len(source))
            if vectors is None
            else context.text_transition_probability(vectors)[0, here, 0].double().numpy()
        )
    else:
        count = transitions.fading * _get_column(transitions.tables, source, request.row)
        text = _get_column([transitions.text], source, request.row)
    kappa = float(context.head.log_kappa.double().exp())
    weight = context.head.event_weights(recent)[0, here].double().numpy()
    row_sum = transitions.row_sum(recent)[0, here].numpy()
    chance = weight * (count + kappa * text) / (row_sum + kappa)
    first = len(request.events) - len(source)
    return [(first + position, float(each)) for position, each in enumerate(chance)]


def _get_column(tables: Sequence[Any], source: Rows, row: int) -> NDArray[np.float64]:
    """(T,) of sparse tables, summed, at rows `source` (T,) of one column."""
    total = np.zeros(len(source))
    for table in tables:
        total += np.asarray(table[source, np.full(len(source), row)]).ravel()
    return total


def _decompose_chain(request: ExplainRequest, context: DriftContext) -> list[tuple[int | None, float]]:
    """What each event gives by the chain, and what does not come from one of them."""
    chain, interest = context.chain, context.interest
    if chain is None or interest is None or context.vectors is None:
        return []
    if request.row is not None:
        taken = context.head.state_logits(chain.emission, context.counts).double()
        taken = (taken[:, request.row] - taken.logsumexp(1)).exp()  # (K,)
    else:
        vectors = request.vectors
        if vectors is None:
            return []
        taken = context.state_probabilities(vectors)[:, 0].double()
    left = _remaining_belief(request, context).double()  # (E, K)
    rest = interest[0].double() - left.sum(0)
    told: list[tuple[int | None, float]] = [(position, float(each @ taken)) for position, each in enumerate(left)]
    return [*told, (None, float(rest @ taken))]


def _remaining_belief(request: ExplainRequest, context: DriftContext) -> Tensor:
    """(E, K) what is left at the query of the interest that each event brought."""
    tables, past = context.chain, request.asked.queries.histories
    if tables is None or context.vectors is None:
        raise ValueError("there is no chain")
    chain, n_events = tables.chain, len(request.events)
    item, time = past.item[request.events], past.time[request.events]
    evidence = chain.evidence(context.vectors[torch.from_numpy(item)])  # (E, K)
    gain = torch.sigmoid(chain.gain)[:, None]  # (2, 1)
    gaps = to_ticks(
        torch.from_numpy(np.diff(time, append=request.asked.queries.time[0]) / SECONDS_PER_DAY)
    )  # (E,) after each event
    belief = evidence.new_zeros(n_events, len(gain), evidence.shape[1])
    for event in range(n_events):
        belief = (1 - gain) * belief
        belief[event] += gain * evidence[event]
        belief[: event + 1] = propagate(belief[: event + 1], gaps[event].expand(event + 1), tables.powers)
    return chain.state_probabilities(belief)
