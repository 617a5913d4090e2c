"""Types of the fields of requests, with the limits that no setting can raise."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, FiniteFloat, StringConstraints

from llmrec.data.ids import format_id
from llmrec.inference.live.store.stored_events import LONGEST_ID

MAX_SAFE_INT = 2**53  # JSON cannot represent all larger integers
MAX_FIELDS, MAX_VALUES = 64, 64
NO_NUL = r"^[^\x00]*$"


def _check_not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("empty; leave it out or say something")
    return text


def _spell_id(value: object) -> object:
    """Return a number as the id that the log reads from it; others as they are."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) <= MAX_SAFE_INT:
        return value
    return format_id(value)


SpelledId = Annotated[str, StringConstraints(min_length=1, max_length=LONGEST_ID, pattern=NO_NUL)]
Words = Annotated[str, StringConstraints(max_length=500), AfterValidator(_check_not_blank)]
Text = Annotated[str, StringConstraints(max_length=100_000)]  # the limit in the settings is usually lower
Whole = Annotated[int, Field(ge=-MAX_SAFE_INT, le=MAX_SAFE_INT, strict=True)]
Id = Annotated[SpelledId, BeforeValidator(_spell_id, json_schema_input_type=SpelledId | Whole)]
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
