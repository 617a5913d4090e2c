"""Routes of the HTTP API."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response

from llmrec.errors import DataError
from llmrec.inference.explanations.explanation import Explanation
from llmrec.inference.live.store.stored_events import LONGEST_ID
from llmrec.inference.live.store.stored_events import NewEvent as StoreEvent
from llmrec.inference.queries import parse_time
from llmrec.service import schemas
from llmrec.service.limits import check_batch, check_items, check_query
from llmrec.service.problem_details import MEDIA_TYPE
from llmrec.service.runtime import ServiceRuntime
from llmrec.service.worker_jobs import RecommendJob, as_raw_text

PROBLEM = {
    "description": "what is wrong, and what to do about it",
    "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
}
PROBLEMS: dict[int | str, dict[str, Any]] = dict.fromkeys((400, 401, 404, 408, 409, 413, 422, 503), PROBLEM)
router = APIRouter(responses=PROBLEMS)
ItemId = Annotated[str, Path(min_length=1, max_length=LONGEST_ID, examples=["2571"])]
UserId = Annotated[str, Path(min_length=1, max_length=LONGEST_ID, examples=["15"])]


def get_service(request: Request) -> ServiceRuntime:
    """Return the service that a request belongs to.

    Args:
        request: HTTP request.

    Returns:
        Runtime of the service.
    """
    service: ServiceRuntime = request.app.state.service
    return service


@router.post("/recommend", summary="The items that score highest for a user or a history")
async def recommend(query: schemas.RecommendQuery, request: Request) -> schemas.RecommendResponse:
    """Return the k best items for a live user, a history, or a new user, with their scores and the unit of these."""
    return await _make_recommend_response(get_service(request), query)


@router.post("/recommend/batch", summary="/recommend for several queries")
async def recommend_batch(batch: schemas.RecommendBatch, request: Request) -> list[schemas.RecommendResponse]:
    """Answer several queries as `/recommend` does, in order, all or none of them."""
    service = get_service(request)
    check_batch(service.settings.limits, batch.queries)
    return await service.submit_all([_make_recommend_response(service, query) for query in batch.queries])


@router.post("/score", summary="A score for each of some items, of the catalog or by their text")
async def score(query: schemas.ScoreQuery, request: Request) -> schemas.ScoreResponse:
    """Score items of the catalog, or items given by their fields, for one history.

    With a drift head a score is the log-probability that the item is next, else a logit.
    """
    return await _make_score_response(get_service(request), query)


@router.post("/score/batch", summary="/score for several queries")
async def score_batch(batch: schemas.ScoreBatch, request: Request) -> list[schemas.ScoreResponse]:
    """Answer several queries as `/score` does, in order, all or none of them."""
    service = get_service(request)
    check_batch(service.settings.limits, batch.queries)
    return await service.submit_all([_make_score_response(service, query) for query in batch.queries])


@router.post("/explain", summary="Why an item has its score: parts that add up to it, by term and by event")
async def explain(query: schemas.ExplainQuery, request: Request) -> Explanation:
    """Explain the score of an item by parts whose points add up to `total`, together with `start`.

    With a drift head the total is the chance of being next, exp(score), else it is the score.
    """
    service = get_service(request)
    check_query(service.settings.limits, query)
    recommender = service.engine.recommender
    return await service.submit(
        lambda: recommender.explain(query.history_argument(), query.item, at=query.at), query.new_items()
    )


@router.post("/events", status_code=201, summary="Store what users did, all or none of it; the next answer knows of it")
async def events(new: schemas.EventsRequest, request: Request) -> schemas.EventsResponse:
    """Store events and answer once they are committed, so that no crash can lose them.

    Send events without an answer again, with the same keys: an event with a known key is not counted twice.
    """
    service = get_service(request)
    check_batch(service.settings.limits, new.events)
    names = service.engine.live.names
    records = [
        StoreEvent(names.pseudonym(one.user), one.item, parse_time(one.at), names.event_key(one.user, one.key))
        for one in new.events
    ]
    try:
        n_stored = await service.writer.submit(records)
    except DataError:
        # The item may be one that another process has just added: looking it up adds it to the catalog.
        await service.submit(lambda: service.engine.recommender.catalog.find_rows([one.item for one in records]))
        n_stored = await service.writer.submit(records)
    service.metrics.events.inc(n_stored)
    return schemas.EventsResponse(stored=n_stored, repeated=len(records) - n_stored)


@router.post("/items", status_code=201, summary="Put new items into the catalog, to be recommended by their text")
async def items(new: schemas.ItemsRequest, request: Request) -> schemas.ItemsResponse:
    """Add items to the catalog; they are stored, survive a restart, and reach all processes of the store."""
    service = get_service(request)
    check_items(service.settings.limits, new)
    await service.submit(lambda: service.engine.add_items(new.items))
    return schemas.ItemsResponse(added=len(new.items))


@router.post("/items/{item:path}/restore", summary="Recommend a removed item again")
async def restore_item(item: ItemId, request: Request) -> schemas.RemoveItemResponse:
    """Recommend a removed item again."""
    service = get_service(request)
    await service.submit(lambda: service.engine.mark("restored", item))
    return schemas.RemoveItemResponse(item=item)


@router.delete("/items/{item:path}", summary="Recommend an item no more; histories may still hold it")
async def remove_item(item: ItemId, request: Request) -> schemas.RemoveItemResponse:
    """Stop recommending an item; histories may still contain it."""
    service = get_service(request)
    await service.submit(lambda: service.engine.mark("removed", item))
    return schemas.RemoveItemResponse(item=item)


@router.get("/users/{user:path}", summary="What is known of a user, for those who ask what it is")
async def get_user(user: UserId, request: Request) -> schemas.UserResponse:
    """Return the pseudonym or id of a user and the last events, which answers are based on."""
    service = get_service(request)

    def known() -> schemas.UserResponse:
        recommender = service.engine.recommender
        known_events = [
            schemas.UserEvent(item=item, label=recommender.catalog.label(item), at=at)
            for item, at in recommender.live.history(user)
        ]
        return schemas.UserResponse(user=recommender.live.names.pseudonym(user), events=known_events)

    result: schemas.UserResponse = await service.submit(known)
    return result


@router.delete("/users/{user:path}", summary="Delete every trace of a user")
async def delete_user(user: UserId, request: Request) -> schemas.DeleteUserResponse:
    """Delete all stored events of a user, and the user's events in the live state and its snapshots."""
    service = get_service(request)
    count: int = await service.submit(lambda: service.engine.delete_user(user))
    return schemas.DeleteUserResponse(user=service.engine.live.names.pseudonym(user), events=count)


@router.get("/health", summary="Whether answers are given")
async def health(request: Request) -> schemas.HealthResponse:
    """Return `ok`, or `stale` while the store cannot be read, with the numbers of users, items and events."""
    engine = get_service(request).engine
    return schemas.HealthResponse(
        status="stale" if engine.stale else "ok",
        users=len(engine.live.users),
        items=len(engine.recommender.catalog),
        events=engine.replica.number,
    )


@router.get("/metrics", summary="For Prometheus", response_class=Response)
async def metrics(request: Request) -> Response:
    """Return the metrics in the text format of Prometheus."""
    text = get_service(request).metrics.render()
    return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")


async def _make_recommend_response(service: ServiceRuntime, query: schemas.RecommendQuery) -> schemas.RecommendResponse:
    check_query(service.settings.limits, query)
    filters = None if query.filters is None else tuple(query.filters)
    new = (*query.new_items(), *as_raw_text([query.query, query.topic]))
    question = RecommendJob(
        query.history_argument(), query.k, query.at, query.include_seen, query.query, filters, query.topic, new
    )
    found = await service.batcher.submit(question)
    return schemas.RecommendResponse(items=[schemas.RankedItem.model_validate(asdict(one)) for one in found])


async def _make_score_response(service: ServiceRuntime, query: schemas.ScoreQuery) -> schemas.ScoreResponse:
    check_query(service.settings.limits, query)
    recommender = service.engine.recommender
    scores = await service.submit(
        lambda: recommender.score(query.history_argument(), query.item_arguments(), at=query.at), query.new_items()
    )
    return schemas.ScoreResponse(scores=scores, unit=recommender.catalog.score_unit)
