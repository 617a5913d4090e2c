"""What the page shows of a history at a moment beside its recommendations: interest, and what the answer is made of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from llmrec.drift.profile import label_states
from llmrec.inference.drift_scoring import iterate_contexts
from llmrec.inference.queries import History, Time, parse_histories
from llmrec.recommender import Recommender
from llmrec.utils.arrays import Rows

PARTS = ("base", "transitions", "chain")


@dataclass(frozen=True)
class InterestView:
    """states: chances of the K latent states, empty without a chain. parts: shares of the mixture, empty without a
    drift head.
    """

    states: list[float]
    parts: dict[str, float]


def build_interest_view(recommender: Recommender, history: History, at: Time | None) -> InterestView:
    """Of one history; hold still what is live. Raises as `Recommender.recommend` does."""
    live = recommender.live
    if recommender.catalog.drift is None:
        return InterestView([], {})
    asked = parse_histories(recommender.catalog.items, [history], at, live.get_events)
    _, situation = next(iterate_contexts(recommender.catalog, live, asked))
    states = [] if situation.interest is None else situation.interest[0].tolist()
    shares = situation.log_mixture_shares()[0].exp().tolist()
    return InterestView(states, dict(zip(PARTS, shares, strict=True)))


def label_latent_states(recommender: Recommender) -> list[list[str]]:
    """What to call the latent states: items that speak for them, among those that people touched."""
    chain = recommender.live.state.stream.chain
    if chain is None:
        return []
    return label_states(chain, recent_item_rows(recommender), recommender.catalog.items.label)


def recent_item_rows(recommender: Recommender) -> Rows:
    """Rows of the items in anybody's last events; of the whole catalog where there are none."""
    last = recommender.live.state.last.item
    rows = np.unique(last[last >= 0])
    return rows if len(rows) else np.arange(len(recommender.catalog))
