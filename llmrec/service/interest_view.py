"""The parts of the demo page that describe a history: interest and mixture shares."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from llmrec.drift.profile import label_states
from llmrec.drift.terms import TERMS, chain
from llmrec.inference.drift_scoring import iterate_contexts
from llmrec.inference.queries import History, Time, parse_histories
from llmrec.recommender import Recommender
from llmrec.utils.arrays import Rows


@dataclass(frozen=True)
class InterestView:
    """Interest and mixture shares at one moment."""

    states: list[float]
    """Probabilities of the K latent states; empty without a chain."""
    parts: dict[str, float]
    """Mixture shares by term; empty without a drift head."""


def build_interest_view(recommender: Recommender, history: History, at: Time | None) -> InterestView:
    """Build the view of one history; the live state must not change meanwhile.

    Args:
        recommender: Recommender with the catalog and the live users.
        history: Events or a live user.
        at: Query time; the time of the last event if None.

    Returns:
        The view.

    Raises:
        DataError: If an id is unknown or a time unreadable.
        BundleError: If text is given to a recommender on ids alone.
    """
    live = recommender.live
    if recommender.catalog.drift is None:
        return InterestView([], {})
    batch = parse_histories(recommender.catalog.items, [history], at=at, follow=live.get_events)
    _, context = next(iterate_contexts(recommender.catalog, live, batch))
    states = context.views[chain.NAME].interest[0].tolist() if chain.NAME in context.views else []
    shares = context.log_mixture_shares()[0].exp().tolist()
    names = [part.name for part in context.head.parts]
    return InterestView(states, dict(zip(names, shares, strict=True)))


def list_terms() -> list[dict[str, str]]:
    """List the drift terms in display order.

    Returns:
        Name, caption and color of each term.
    """
    return [{"name": term.name, "caption": term.caption, "color": term.color} for term in TERMS]


def label_latent_states(recommender: Recommender) -> list[list[str]]:
    """Return typical items of each latent state, among those that live users chose recently.

    Args:
        recommender: Recommender with the catalog and the live users.

    Returns:
        Labels of items for each of K states; empty without a chain.
    """
    tables = recommender.live.state.stream.chain
    if tables is None:
        return []
    return label_states(tables, recent_item_rows(recommender), recommender.catalog.items.label)


def recent_item_rows(recommender: Recommender) -> Rows:
    """Return the rows of the items in the last events of live users, or of the whole catalog without any.

    Args:
        recommender: Recommender with the catalog and the live users.

    Returns:
        Catalog rows, ascending.
    """
    last = recommender.live.state.last.item
    rows = np.unique(last[last >= 0])
    return rows if len(rows) else np.arange(len(recommender.catalog))
