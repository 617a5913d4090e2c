"""What requests and answers look like. Sizes are checked here, against the limits that a request is validated with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, FiniteFloat, StringConstraints

from llmrec.inference.live.store.event_store import LONGEST_ID
from llmrec.inference.queries import Event, History, Item
from llmrec.inference.ranked_items import ScoreUnit

MAX_SAFE_INT = 2**53  # beyond it JSON's numbers are no longer whole
MAX_FIELDS, MAX_VALUES = 64, 64
NO_NUL = r"^[^\x00]*$"


def _check_not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("empty; leave it out or say something")
    return text


Id = Annotated[str, StringConstraints(min_length=1, max_length=LONGEST_ID, pattern=NO_NUL)]
Words = Annotated[str, StringConstraints(max_length=500), AfterValidator(_check_not_blank)]
Text = Annotated[str, StringConstraints(max_length=100_000)]  # the limit of the settings comes before this
Whole = Annotated[int, Field(ge=-MAX_SAFE_INT, le=MAX_SAFE_INT, strict=True)]
Moment = Annotated[
    Whole | FiniteFloat | Annotated[str, StringConstraints(max_length=64)],
    Field(description="seconds since 1970, or ISO 8601, UTC where it does not say", examples=["2016-03-01T20:00"]),
]
Scalar = Annotated[bool, Field(strict=True)] | Whole | Annotated[float, Field(allow_inf_nan=False)] | Text
Value = Scalar | Annotated[list[Scalar], Field(max_length=MAX_VALUES)] | None
Fields = Annotated[
    dict[Annotated[str, StringConstraints(min_length=1, max_length=200)], Value],
    Field(
        min_length=1,
        max_length=MAX_FIELDS,
        description='fields of an item as the catalog has them, or {"text": ...}, which is read as it is',
        examples=[{"title": "Orbit of Ashes", "genres": "Sci-Fi, Drama"}],
    ),
]


class StrictModel(BaseModel):
    """Unknown names are refused: a misspelt option would be passed over in silence."""

    model_config = ConfigDict(extra="forbid")


class HistoryEvent(StrictModel):
    """item: of the catalog, or the fields of one that is in no catalog."""

    item: Id | Fields
    at: Moment | None = None

    def to_event(self) -> Event:
        return self.item if self.at is None else (self.item, self.at)


class HistoryQuery(StrictModel):
    """Either a live user or a history."""

    user: Id | None = Field(None, description="a live user's id: all that is known of that user", examples=["15"])
    history: list[Id | HistoryEvent] | None = Field(
        None, description="what somebody did, oldest first", examples=[["1", {"item": "260", "at": "2016-02-01"}]]
    )
    at: Moment | None = Field(None, description="the query time; events at or after it are left out")

    def history_argument(self) -> History:
        if self.user is not None:
            return self.user
        return [each if isinstance(each, str) else each.to_event() for each in self.history or ()]

    def new_items(self) -> tuple[Mapping[str, Any], ...]:
        """Items in the history that are in no catalog."""
        given = [each.item for each in self.history or () if isinstance(each, HistoryEvent)]
        return tuple(item for item in given if not isinstance(item, str))


class RecommendQuery(HistoryQuery):
    """What to recommend; without user and history what is popular, or near to the words."""

    k: Annotated[int, Field(ge=1, strict=True, description="how many items")] = 10
    include_seen: bool = False
    query: Words | None = Field(None, description="what the user says to want", examples=["a slow western"])
    filters: Annotated[list[Words], Field(min_length=1, max_length=16)] | None = Field(
        None, description="conditions on fields: field=value, or field~part", examples=[["genres~drama"]]
    )
    topic: Words | None = Field(None, description="only the tenth of the catalog nearest to these words")


class ScoreQuery(HistoryQuery):
    """Items to score for one history."""

    items: list[Id | Fields] = Field(min_length=1, examples=[["2571", {"title": "Orbit of Ashes", "genres": "Sci-Fi"}]])

    def item_arguments(self) -> list[Item]:
        return list(self.items)

    def new_items(self) -> tuple[Mapping[str, Any], ...]:
        return (*super().new_items(), *(item for item in self.items if not isinstance(item, str)))


class ExplainQuery(HistoryQuery):
    """Why an item, of the catalog or by its fields, has its score for one history."""

    item: Id | Fields = Field(examples=["2571"])

    def new_items(self) -> tuple[Mapping[str, Any], ...]:
        return super().new_items() if isinstance(self.item, str) else (*super().new_items(), self.item)


class RecommendBatch(StrictModel):
    """Answered in order, all or none."""

    queries: list[RecommendQuery] = Field(min_length=1)


class ScoreBatch(StrictModel):
    """Answered in order, all or none."""

    queries: list[ScoreQuery] = Field(min_length=1)


class RankedItem(BaseModel):
    rank: int
    item: str
    label: str
    score: float
    unit: ScoreUnit = Field(description="of the score: exp(score) of a log_probability is the chance of being next")


class RecommendResponse(BaseModel):
    items: list[RankedItem]


class ScoreResponse(BaseModel):
    scores: list[float] = Field(description="in the order of the items: logits, or log chances with a drift head")


class EventRequest(StrictModel):
    """key: by which an event that is sent again does not count twice."""

    user: Id
    item: Id
    at: Moment
    key: Id | None = Field(None, examples=["9f1c6a52-1"])


class EventsRequest(StrictModel):
    events: list[EventRequest] = Field(
        min_length=1, examples=[[{"user": "15", "item": "2571", "at": "2016-11-02T20:00", "key": "9f1c6a52-1"}]]
    )


class EventsResponse(BaseModel):
    """stored: events that are new and committed; repeated: that were there already, by their key."""

    stored: int
    repeated: int


class ItemsRequest(StrictModel):
    items: list[Fields] = Field(
        min_length=1, examples=[[{"item_id": "new-1", "title": "Orbit of Ashes", "genres": "Sci-Fi, Drama"}]]
    )


class ItemsResponse(BaseModel):
    added: int


class RemoveItemResponse(BaseModel):
    item: str


class DeleteUserResponse(BaseModel):
    """events: that the store had of the user."""

    user: str
    events: int


class UserEvent(BaseModel):
    item: str
    label: str
    at: int


class UserResponse(BaseModel):
    """events: the last ones, oldest first: what answers go by."""

    user: str
    events: list[UserEvent]


class HealthResponse(BaseModel):
    """status: `ok`, or `stale` while the store cannot be read and answers go on without what is new."""

    status: str
    users: int
    items: int
    events: int
