"""What commands print."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from llmrec.inference.queries import Event, get_event_item
from llmrec.inference.ranked_items import Recommendation
from llmrec.recommender import Recommender
from llmrec.reports.explanation_text import SHOWN_EVENTS


def render_history(recommender: Recommender, events: list[Event], looking_for: str | None = None) -> None:
    labels = [recommender.catalog.label(get_event_item(event)) for event in events[-SHOWN_EVENTS:]]
    print(f"after {len(events):,} events, the last: {'; '.join(labels) or 'none'}")
    if looking_for is not None:
        print(f"looking for: {looking_for}")


def render_json(found: Sequence[Any]) -> None:
    """Dataclasses, as one JSON list."""
    print(json.dumps([asdict(one) for one in found], ensure_ascii=False))


def render_ranking(found: list[Recommendation]) -> None:
    for item in found:
        print(f"{item.rank:>3}  {item.score:8.3f}  {item.label}  [{item.item}]")
