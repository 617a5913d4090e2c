"""Schemas of requests and answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from llmrec.inference.queries import Event, History, Item
from llmrec.inference.score_units import ScoreUnit
from llmrec.service.field_types import Fields, Id, Moment, Words


class StrictModel(BaseModel):
    """Schema that refuses unknown names, since a misspelled option would otherwise be ignored."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class ResponseModel(BaseModel):
    """Schema of an answer, described in OpenAPI by the docstrings of its fields."""

    model_config = ConfigDict(use_attribute_docstrings=True)


class HistoryEvent(StrictModel):
    """An event of a history: a catalog item, or the fields of an item that is in no catalog."""

    item: Id | Fields
    """Id of a catalog item, or fields of another item."""
    at: Moment | None = None
    """Time of the event."""

    def to_event(self) -> Event:
        """Convert to an event as `Recommender` takes it.

        Returns:
            The item, with its time if it has one.
        """
        return self.item if self.at is None else (self.item, self.at)


class HistoryQuery(StrictModel):
    """A query for a live user or for a history."""

    user: Id | None = Field(None, description="a live user's id: all that is known of that user", examples=["15"])
    history: list[Id | HistoryEvent] | None = Field(
        None, description="events of a user, oldest first", examples=[["1", {"item": "260", "at": "2016-02-01"}]]
    )
    at: Moment | None = Field(None, description="the query time; events at or after it are left out")

    def history_argument(self) -> History:
        """Convert to a history as `Recommender` takes it.

        Returns:
            The id of the live user, or the events.
        """
        if self.user is not None:
            return self.user
        return [each if isinstance(each, str) else each.to_event() for each in self.history or ()]

    def new_items(self) -> tuple[Mapping[str, Any], ...]:
        """Collect the items of the history that are in no catalog.

        Returns:
            Fields of each item.
        """
        given = [each.item for each in self.history or () if isinstance(each, HistoryEvent)]
        return tuple(item for item in given if not isinstance(item, str))


class RecommendQuery(HistoryQuery):
    """Query for recommendations; without user and history, popular items or those that match the words."""

    k: Annotated[int, Field(ge=1, strict=True, description="how many items")] = 10
    include_seen: bool | None = None
    """Recommend items of the history too; by default as the evaluation of the bundle ranked them."""
    query: Words | None = Field(None, description="what the user says to want", examples=["a slow western"])
    filters: Annotated[list[Words], Field(min_length=1, max_length=16)] | None = Field(
        None, description="conditions on fields: field=value, or field~part", examples=[["genres~drama"]]
    )
    topic: Words | None = Field(None, description="only the tenth of the catalog nearest to these words")


class ScoreQuery(HistoryQuery):
    """Items to score for one history."""

    items: list[Id | Fields] = Field(min_length=1, examples=[["2571", {"title": "Orbit of Ashes", "genres": "Sci-Fi"}]])
    """Ids of catalog items, or fields of other items."""

    def item_arguments(self) -> list[Item]:
        """Convert the items to a list as `Recommender` takes it.

        Returns:
            Ids or fields.
        """
        return list(self.items)

    def new_items(self) -> tuple[Mapping[str, Any], ...]:
        """Collect the items to read by their text, in the history and among those to score.

        Returns:
            Fields of each item.
        """
        return (*super().new_items(), *(item for item in self.items if not isinstance(item, str)))


class ExplainQuery(HistoryQuery):
    """Item, of the catalog or by its fields, whose score to explain for one history."""

    item: Id | Fields = Field(examples=["2571"])
    """Id of a catalog item, or fields of another item."""

    def new_items(self) -> tuple[Mapping[str, Any], ...]:
        """Collect the items to read by their text, in the history and the one to explain.

        Returns:
            Fields of each item.
        """
        return super().new_items() if isinstance(self.item, str) else (*super().new_items(), self.item)


class RecommendBatch(StrictModel):
    """Queries for recommendations, answered in order, all or none."""

    queries: list[RecommendQuery] = Field(min_length=1)
    """Queries of the batch."""


class ScoreBatch(StrictModel):
    """Queries for scores, answered in order, all or none."""

    queries: list[ScoreQuery] = Field(min_length=1)
    """Queries of the batch."""


class RankedItem(ResponseModel):
    """One item of a ranked list."""

    rank: int
    """Position in the list, from 1."""
    item: str
    """Id of the item."""
    label: str
    """Short name of the item."""
    score: float
    """Number that the list is sorted by."""
    unit: ScoreUnit
    """Unit of the score: exp(score) of a `log_probability` is the chance of being next; differences of a `logit` are
    log-odds.
    """
    fields: dict[str, str]
    """Text of the display columns, without empty ones."""


class RecommendResponse(ResponseModel):
    """Recommended items, best first."""

    items: list[RankedItem]
    """At most k items."""


class ScoreResponse(ResponseModel):
    """Scores of the items of a query."""

    scores: list[float]
    """Scores in the order of the items."""
    unit: ScoreUnit
    """Unit of the scores: `log_probability` of being next with a drift head, else `logit`."""


class EventRequest(StrictModel):
    """An event to store; if it is sent again with the same key it is not counted twice."""

    user: Id
    """The user's id."""
    item: Id
    """Id of a catalog item."""
    at: Moment
    """Time of the event."""
    key: Id | None = Field(None, examples=["9f1c6a52-1"])
    """Key that identifies a repeated event."""


class EventsRequest(StrictModel):
    """Events to store, all or none."""

    events: list[EventRequest] = Field(
        min_length=1, examples=[[{"user": "15", "item": "2571", "at": "2016-11-02T20:00", "key": "9f1c6a52-1"}]]
    )
    """Events in order of arrival."""


class EventsResponse(ResponseModel):
    """Number of new events that are committed, and of repeated ones, recognized by their key."""

    stored: int
    """New events that are committed."""
    repeated: int
    """Events that were stored before, by their key."""


class ItemsRequest(StrictModel):
    """New items for the catalog, all or none."""

    items: list[Fields] = Field(
        min_length=1, examples=[[{"item_id": "new-1", "title": "Orbit of Ashes", "genres": "Sci-Fi, Drama"}]]
    )
    """Fields of each item, its id among them."""


class ItemsResponse(ResponseModel):
    """Number of items that were added."""

    added: int
    """Items that were added."""


class RemoveItemResponse(ResponseModel):
    """The item that was removed or restored."""

    item: str
    """Id of the item."""


class DeleteUserResponse(ResponseModel):
    """The deleted user, and the number of events of the user that the store had."""

    user: str
    """Pseudonym, or id without pseudonyms."""
    events: int
    """Events of the user in the store."""


class UserEvent(ResponseModel):
    """An event of a user."""

    item: str
    """Id of the item."""
    label: str
    """Short name of the item."""
    at: int
    """Seconds since 1970."""


class UserResponse(ResponseModel):
    """A user and the last events, oldest first, which answers are based on."""

    user: str
    """Pseudonym, or id without pseudonyms."""
    events: list[UserEvent]
    """Last events, oldest first."""


class HealthResponse(ResponseModel):
    """State of the service: `ok`, or `stale` while the store cannot be read and answers omit new events."""

    status: str
    """`ok` or `stale`."""
    users: int
    """Live users."""
    items: int
    """Items of the catalog."""
    events: int
    """Number of the newest event in the state."""
