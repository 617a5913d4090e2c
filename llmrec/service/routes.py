"""What can be asked over HTTP."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response

from llmrec.errors import DataError
from llmrec.inference.explanations.explanation import Explanation
from llmrec.inference.live.store.event_store import LONGEST_ID
from llmrec.inference.live.store.event_store import NewEvent as StoreEvent
from llmrec.inference.queries import rows_of, seconds_of
from llmrec.service import schemas
from llmrec.service.limits import check_batch, check_items, check_query
from llmrec.service.problem_details import MEDIA_TYPE
from llmrec.service.runtime import Service
from llmrec.service.worker import Recommend, verbatim

PROBLEM = {
    "description": "what is wrong, and what to do about it",
    "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
}
PROBLEMS: dict[int | str, dict[str, Any]] = dict.fromkeys((400, 401, 404, 408, 409, 413, 422, 503), PROBLEM)
router = APIRouter(responses=PROBLEMS)
ItemId = Annotated[str, Path(min_length=1, max_length=LONGEST_ID, examples=["2571"])]
UserId = Annotated[str, Path(min_length=1, max_length=LONGEST_ID, examples=["15"])]


def service_of(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


@router.post("/recommend", summary="The items that score highest for a user or a history")
async def recommend(query: schemas.RecommendQuery, request: Request) -> schemas.Recommended:
    return await _recommended(service_of(request), query)


@router.post("/recommend/batch", summary="/recommend for several queries")
async def recommend_batch(batch: schemas.RecommendBatch, request: Request) -> list[schemas.Recommended]:
    service = service_of(request)
    check_batch(service.settings.limits, batch.queries)
    return await service.all_of([_recommended(service, query) for query in batch.queries])


@router.post("/score", summary="A score for each of some items, of the catalog or by their text")
async def score(query: schemas.ScoreQuery, request: Request) -> schemas.Scored:
    return await _scored(service_of(request), query)


@router.post("/score/batch", summary="/score for several queries")
async def score_batch(batch: schemas.ScoreBatch, request: Request) -> list[schemas.Scored]:
    service = service_of(request)
    check_batch(service.settings.limits, batch.queries)
    return await service.all_of([_scored(service, query) for query in batch.queries])


@router.post("/explain", summary="Why an item has its score: parts that add up to it, by term and by event")
async def explain(query: schemas.ExplainQuery, request: Request) -> Explanation:
    service = service_of(request)
    check_query(service.settings.limits, query)
    recommender = service.engine.recommender
    return await service.do(lambda: recommender.explain(query.who(), query.item, query.at), query.new())


@router.post("/events", status_code=201, summary="Store what users did, all or none of it; the next answer knows of it")
async def events(new: schemas.Events, request: Request) -> schemas.Stored:
    """Answered once the events are committed: no crash takes them away then. Send what was not answered again, with
    the same keys.
    """
    service = service_of(request)
    check_batch(service.settings.limits, new.events)
    names = service.engine.live.names
    asked = [
        StoreEvent(names.of(one.user), one.item, seconds_of(one.at), names.of_key(one.user, one.key))
        for one in new.events
    ]
    try:
        n_stored = await service.writer.ask(asked)
    except DataError:
        # Unless it is of an item that another process has just added, which the recommender then takes in.
        await service.do(lambda: rows_of(service.engine.recommender.catalog, [one.item for one in asked]))
        n_stored = await service.writer.ask(asked)
    service.metrics.events.inc(n_stored)
    return schemas.Stored(stored=n_stored, repeated=len(asked) - n_stored)


@router.post("/items", status_code=201, summary="Put new items into the catalog, to be recommended by their text")
async def items(new: schemas.NewItems, request: Request) -> schemas.Added:
    """They are kept in the store, outlive a restart, and reach all processes that share it."""
    service = service_of(request)
    check_items(service.settings.limits, new)
    await service.do(lambda: service.engine.add_items(new.items))
    return schemas.Added(added=len(new.items))


@router.post("/items/{item:path}/restore", summary="Recommend a removed item again")
async def restore_item(item: ItemId, request: Request) -> schemas.Removed:
    service = service_of(request)
    await service.do(lambda: service.engine.mark("restored", item))
    return schemas.Removed(item=item)


@router.delete("/items/{item:path}", summary="Recommend an item no more; histories may still hold it")
async def remove_item(item: ItemId, request: Request) -> schemas.Removed:
    service = service_of(request)
    await service.do(lambda: service.engine.mark("removed", item))
    return schemas.Removed(item=item)


@router.get("/users/{user:path}", summary="What is known of a user, for those who ask what it is")
async def user_known(user: UserId, request: Request) -> schemas.KnownUser:
    service = service_of(request)

    def known() -> schemas.KnownUser:
        recommender = service.engine.recommender
        told = [
            schemas.KnownEvent(item=item, label=recommender.label(item), at=at)
            for item, at in recommender.history(user)
        ]
        return schemas.KnownUser(user=recommender.live.names.of(user), events=told)

    result: schemas.KnownUser = await service.do(known)
    return result


@router.delete("/users/{user:path}", summary="Delete every trace of a user")
async def delete_user(user: UserId, request: Request) -> schemas.Deleted:
    service = service_of(request)
    count: int = await service.do(lambda: service.engine.delete_user(user))
    return schemas.Deleted(user=service.engine.live.names.of(user), events=count)


@router.get("/health", summary="Whether answers are given")
async def health(request: Request) -> schemas.Health:
    engine = service_of(request).engine
    return schemas.Health(
        status="stale" if engine.stale else "ok",
        users=len(engine.live.users),
        items=len(engine.recommender.catalog),
        events=engine.replica.number,
    )


@router.get("/metrics", summary="For Prometheus", response_class=Response)
async def metrics(request: Request) -> Response:
    text = service_of(request).metrics.text()
    return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")


async def _recommended(service: Service, query: schemas.RecommendQuery) -> schemas.Recommended:
    check_query(service.settings.limits, query)
    where = None if query.where is None else tuple(query.where)
    new = (*query.new(), *verbatim([query.looking_for, query.topic]))
    question = Recommend(query.who(), query.k, query.at, query.include_seen, query.looking_for, where, query.topic, new)
    found = await service.batcher.ask(question)
    return schemas.Recommended(
        items=[schemas.Ranked(rank=one.rank, item=one.item, label=one.label, score=one.score) for one in found]
    )


async def _scored(service: Service, query: schemas.ScoreQuery) -> schemas.Scored:
    check_query(service.settings.limits, query)
    recommender = service.engine.recommender
    scores = await service.do(lambda: recommender.score(query.who(), query.given(), query.at), query.new())
    return schemas.Scored(scores=scores)
