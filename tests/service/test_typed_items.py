"""JSON values of new items, in a catalog with columns of decimals, dates, times, truths and lists."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

pytest.importorskip("fastapi", reason="needs FastAPI (extra: serve)")
pytest.importorskip("sqlalchemy", reason="needs SQLAlchemy (extra: serve)")
pytest.importorskip("prometheus_client", reason="needs prometheus-client (extra: serve)")

from starlette.testclient import TestClient

from llmrec.hub.bundle import load_bundle, save_bundle
from llmrec.inference.live.store.event_store import EventStore
from llmrec.recommender import Recommender
from llmrec.service.app import create_app
from llmrec.service.settings import ServiceSettings

if TYPE_CHECKING:
    from llmrec.data.log import Log

KINDS = {
    "price": pa.decimal128(9, 2),
    "day": pa.date32(),
    "shown": pa.timestamp("us", "UTC"),
    "hour": pa.time64("us"),
    "classic": pa.bool_(),
    "year": pa.int16(),
    "tags": pa.large_list(pa.large_string()),
}
TEMPLATE = "{title}. " + ", ".join(f"{{{name}}}" for name in KINDS)
FIRST = {"price": 9.99, "day": "2020-01-31", "shown": "2020-01-31T13:30:00+01:00", "hour": "09:30", "classic": "true"}
FIRST |= {"year": "1995", "tags": "war, love", "title": "robot"}
SAME = {"price": "9.99", "day": "20200131T00", "shown": 1_580_473_800, "hour": "09:30:00.000", "classic": True}
SAME |= {"year": 1995.0, "tags": ["war", "love"], "title": "robot"}


@pytest.fixture
def recommender(make_bundle: Any, add_drift: Any, tmp_path: Path, tiny_bert: Path, log: Log) -> Recommender:
    """Of a catalog whose items have none of these values, so that their texts are their titles."""
    bundle = add_drift(make_bundle("frozen"))
    fields = bundle.catalog.fields
    for name, kind in KINDS.items():
        fields = fields.append_column(name, pa.nulls(len(fields), kind))
    save_bundle(tmp_path / "bundle", replace(bundle, catalog=replace(bundle.catalog, fields=fields, template=TEMPLATE)))
    backbone = str(tiny_bert)
    return Recommender(load_bundle(tmp_path / "bundle", backbone), tmp_path / "bundle", backbone=backbone, log=log)


@pytest.fixture
def client(recommender: Recommender, tmp_path: Path) -> Iterator[TestClient]:
    store = EventStore(f"sqlite:///{tmp_path / 'state.db'}")
    with TestClient(create_app(recommender, ServiceSettings(max_wait_ms=1.0), store)) as client:
        yield client


def test_json_values_are_those_of_the_column(client: TestClient, recommender: Recommender) -> None:
    items = [{"item_id": "first", **FIRST}, {"item_id": "same", **SAME}]
    assert client.post("/items", json={"items": items}).status_code == 201
    texts = recommender.catalog.items.list_texts()[-2:]
    assert texts == ["robot. 9.99, 2020-01-31, 2020-01-31 12:30:00Z, 09:30:00, true, 1995, war, love"] * 2
    scores = client.post("/score", json={"items": ["first", "same", FIRST, SAME]}).json()["scores"]
    assert scores[::2] == pytest.approx(scores[1::2])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("price", "cheap"),
        ("price", 9.999),
        ("day", "31/31/2020"),
        ("day", 18292),
        ("shown", {"at": 1}),
        ("hour", 930),
        ("classic", 1),
        ("year", 1995.5),
        ("tags", {"a": 1}),
    ],
)
def test_values_that_do_not_fit_are_refused_by_the_name_of_the_field(
    client: TestClient, recommender: Recommender, name: str, value: object
) -> None:
    before = len(recommender.catalog)
    answer = client.post("/items", json={"items": [{"item_id": "new", **FIRST, name: value}]})
    assert answer.status_code == 422
    assert name in answer.json()["detail"]
    assert len(recommender.catalog) == before
