"""What the page shows of a history at a moment beside its recommendations: interest, and what the answer is made of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from llmrec.drift.profile import state_titles
from llmrec.inference.drift_scoring import situations
from llmrec.inference.queries import History, Time, read_histories
from llmrec.recommender import Recommender
from llmrec.utils.arrays import Rows

PARTS = ("base", "transitions", "chain")


@dataclass(frozen=True)
class Interest:
    """states: chances of the K latent states, empty without a chain. parts: shares of the mixture, empty without a
    drift head.
    """

    states: list[float]
    parts: dict[str, float]


def interest_of(recommender: Recommender, history: History, at: Time | None) -> Interest:
    """Of one history; hold still what is live. Raises as `Recommender.recommend` does."""
    live = recommender.live
    if recommender.vectors.drift is None:
        return Interest([], {})
    asked = read_histories(recommender.catalog, [history], at, live.events)
    _, situation = next(situations(recommender.vectors, live, asked))
    states = [] if situation.interest is None else situation.interest[0].tolist()
    shares = situation.log_shares()[0].exp().tolist()
    return Interest(states, dict(zip(PARTS, shares, strict=True)))


def titles_of_states(recommender: Recommender) -> list[list[str]]:
    """What to call the latent states: items that speak for them, among those that people touched."""
    chain = recommender.live.state.stream.chain
    if chain is None:
        return []
    return state_titles(chain, touched(recommender), recommender.catalog.label)


def touched(recommender: Recommender) -> Rows:
    """Rows of the items in anybody's last events; of the whole catalog where there are none."""
    last = recommender.live.state.last.item
    rows = np.unique(last[last >= 0])
    return rows if len(rows) else np.arange(len(recommender.catalog))
