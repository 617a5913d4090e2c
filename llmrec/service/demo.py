"""The page of `llmrec demo` and the routes that only this page uses."""

from __future__ import annotations

from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow.compute as pc
from fastapi import APIRouter, Query, Request
from fastapi.responses import FileResponse
from pydantic import Field

from llmrec.data.items.catalog import ItemCatalog
from llmrec.errors import ConfigError
from llmrec.inference.queries import VERBATIM, History, Time
from llmrec.inference.score_units import UNIT_HEADS
from llmrec.recommender import Recommender
from llmrec.service import field_types, schemas
from llmrec.service.interest_view import build_interest_view, label_latent_states, list_terms
from llmrec.service.limits import check_query, check_texts
from llmrec.service.replica_state import live_users_as_log
from llmrec.service.routes import explain as explain_item
from llmrec.service.routes import get_service
from llmrec.service.worker import Worker
from llmrec.service.worker_jobs import as_raw_text

STATIC = Path(__file__).parent / "static"
MAX_SHOWN, MAX_EVENTS = 20, 8
router = APIRouter(include_in_schema=False)
Words = Annotated[str, Query(max_length=200)]


class ViewQuery(schemas.HistoryQuery):
    """User or history to show, and the query time."""

    k: Annotated[int, Field(ge=1, le=100)] = 12
    """Items to recommend."""


class NewText(schemas.StrictModel):
    """Text of an item that is in no catalog."""

    text: field_types.Words
    """Item text, read as it is."""
    k: Annotated[int, Field(ge=1, le=100)] = 12
    """Users to return."""


@router.get("/")
async def index() -> FileResponse:
    """Return the page.

    Returns:
        The HTML file.
    """
    return FileResponse(STATIC / "index.html")


@router.get("/page/about")
async def about(request: Request) -> dict[str, Any]:
    """Describe the served bundle, with the titles of latent states and the drift terms.

    Args:
        request: HTTP request.

    Returns:
        Source, numbers of items and users, titles of states, terms, and the time of the newest event in seconds.
    """
    engine = get_service(request).engine

    def describe() -> dict[str, Any]:
        recommender, live = engine.recommender, engine.live
        newest = live.state.last.time[:, -1]
        return {
            "source": str(recommender.catalog.bundle.facts.get("source", "")),
            "items": len(recommender.catalog),
            "users": len(live.users),
            "unit": UNIT_HEADS[recommender.catalog.score_unit],
            "reads_text": recommender.catalog.bundle.base is not None,
            "states": _list_titles(recommender, len(recommender.catalog)),
            "terms": list_terms(),
            "newest": max(int(newest.max(initial=0)), 0),
        }

    answer: dict[str, Any] = await get_service(request).submit(describe)
    return answer


@router.get("/page/users")
async def users(request: Request, words: Words = "") -> list[dict[str, Any]]:
    """Find the users whose id contains some characters, those with the newest events first.

    Args:
        request: HTTP request.
        words: Characters to look for, ignoring case, or a whole user id.

    Returns:
        At most `MAX_SHOWN` users, each with its number of items.
    """
    engine = get_service(request).engine

    def found() -> list[dict[str, Any]]:
        last, known = engine.live.state.last, engine.live.users
        exact = _match_user(engine, words)
        ids = [user for user in known if words.lower() in user.lower()]
        newest = last.time[[known[user] for user in ids], -1]
        order = [ids[place] for place in np.argsort(-newest, kind="stable").tolist()]
        shown = list(dict.fromkeys([*([exact] if exact in known else []), *order]))[:MAX_SHOWN]
        place, _ = engine.live.state.seen.list_pairs(np.array([known[user] for user in shown], dtype=np.int64))
        counts = np.bincount(place, minlength=len(shown)).tolist()
        return [{"user": user, "items": count} for user, count in zip(shown, counts, strict=True)]

    answer: list[dict[str, Any]] = await get_service(request).submit(found)
    return answer


@router.get("/page/items")
async def items(request: Request, words: Words = "") -> list[dict[str, str]]:
    """Find the items whose name contains all words, those that begin with them first.

    Args:
        request: HTTP request.
        words: Words to look for, ignoring case.

    Returns:
        At most `MAX_SHOWN` items, each with its id and label.
    """
    engine = get_service(request).engine
    answer: list[dict[str, str]] = await get_service(request).submit(
        lambda: _search_names(engine.recommender.catalog.items, words)
    )
    return answer


@router.post("/page/view")
async def view(query: ViewQuery, request: Request) -> dict[str, Any]:
    """Return recommendations, interest and mixture shares at one moment.

    Args:
        query: User or history, and query time.
        request: HTTP request.

    Returns:
        Items with scores, probabilities of latent states, and mixture shares by term.

    Raises:
        DataError: If the query exceeds a limit, or an id is unknown.
    """
    service = get_service(request)
    check_query(service.settings.limits, query)
    answer: dict[str, Any] = await service.submit(lambda: _build_view(service.engine, query), query.new_items())
    return answer


@router.post("/page/explain")
async def explain(query: schemas.ExplainQuery, request: Request) -> dict[str, Any]:
    """Explain the score of an item in rows that add up as they are printed.

    Args:
        query: User or history, item and query time.
        request: HTTP request.

    Returns:
        Label of the item, sentence, and rows by term and by event; the last of each is the total.

    Raises:
        DataError: If the query exceeds a limit, or an id is unknown.
    """
    found = await explain_item(query, request)
    return {
        "label": found.label,
        "sentence": found.sentence,
        "terms": [asdict(row) for row in found.by_term()],
        "events": [asdict(row) for row in found.by_event(MAX_EVENTS)],
    }


@router.post("/page/audience")
async def audience(new: NewText, request: Request) -> list[dict[str, Any]]:
    """Return the users whose next item the new item most probably is.

    Args:
        new: Text of the item, and number of users.
        request: HTTP request.

    Returns:
        Users, best first, each with lift, place of the item in the user's ranking, events, and items in the catalog.

    Raises:
        DataError: If the text is too long.
    """
    service = get_service(request)
    check_texts(service.settings.limits, [{VERBATIM: new.text}])
    engine = service.engine

    def found() -> list[dict[str, Any]]:
        members = engine.recommender.audience({VERBATIM: new.text}, k=new.k, log=live_users_as_log(engine.live))
        return [
            {
                "user": one.user,
                "lift": one.lift,
                "place": one.place,
                "events": one.n_events,
                "of": len(engine.recommender.catalog),
            }
            for one in members
        ]

    answer: list[dict[str, Any]] = await service.submit(found, as_raw_text([new.text]))
    return answer


def _match_user(engine: Worker, words: str) -> str:
    """Return the name of a user in the state for words that may be the user's id."""
    try:
        return engine.live.names.pseudonym(words)
    except ConfigError:  # there are pseudonyms, and no key
        return words


def _build_view(engine: Worker, query: ViewQuery) -> dict[str, Any]:
    recommender = engine.recommender
    history, older = query.history_argument(), set[str]()
    if query.user is not None and query.at is not None:
        history, older = _user_history(recommender, query.user)
    found = recommender.recommend(history, k=query.k + len(older), at=query.at)
    interest = build_interest_view(recommender, history, query.at)
    ranked = [
        {
            "item": one.item,
            "label": one.label,
            "shown": " · ".join(one.fields.values()),
            "score": one.score,
            "text": one.score_text,
        }
        for one in found
        if one.item not in older
    ]
    return {"items": ranked[: query.k], "states": interest.states, "parts": interest.parts}


def _user_history(recommender: Recommender, user: str) -> tuple[History, set[str]]:
    """Return a live user's last events as a history to cut at any time, and the items of older events."""
    live, events = recommender.live, list[tuple[str, Time]](recommender.live.history(user))
    _, rows = live.state.seen.list_pairs(np.array([live.find_row(user)]))
    recent = {item for item, _ in events}
    return events, {str(recommender.catalog.ids[int(row)]) for row in rows} - recent


def _search_names(catalog: ItemCatalog, words: str) -> list[dict[str, str]]:
    text = pc.utf8_lower(catalog.names)
    mask = np.ones(len(catalog), dtype=np.bool_)
    for word in words.lower().split():
        mask &= np.asarray(pc.match_substring(text, word))
    rows = np.flatnonzero(mask)
    begins = np.asarray(pc.starts_with(text, words.lower().strip()))[rows]
    order = np.lexsort((np.asarray(pc.utf8_length(text))[rows], ~begins))[:MAX_SHOWN]
    return [{"item": str(catalog.ids[row]), "label": catalog.label(row)} for row in rows[order].tolist()]


@lru_cache(maxsize=4)
def _list_titles(recommender: Recommender, n_items: int) -> list[list[str]]:
    """List the items that describe each latent state; `n_items` renews the cache when the catalog grows."""
    del n_items
    return label_latent_states(recommender)
