"""What is asked over HTTP is answered as the recommender answers it, and what is done lasts."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from starlette.testclient import TestClient

from llmrec.inference.live.users import LiveUsers
from llmrec.recommender import Recommender

if TYPE_CHECKING:
    from llmrec.data.log import Log
    from tests.service.conftest import Serve

NEW = {"item_id": "new", "title": "space robot war"}


def ids(answer: dict) -> list[str]:
    return [item["item"] for item in answer["items"]]


def test_answers_are_those_of_the_recommender(client: TestClient, load: Callable[[], Recommender], log: Log) -> None:
    recommender, items = load(), log.catalog.ids.to_pylist()[:3]
    user = str(log.user_ids[0])
    found = client.post("/recommend", json={"user": user, "k": 5}).json()
    expected = recommender.recommend(user, k=5)
    assert ids(found) == [one.item for one in expected]
    assert [item["score"] for item in found["items"]] == pytest.approx([one.score for one in expected], abs=1e-5)
    asked = [*items, {"title": "space robot war"}]
    scored = client.post("/score", json={"history": items[:2], "items": asked})
    assert scored.json()["scores"] == pytest.approx(recommender.score(items[:2], asked), abs=1e-5)


def test_a_batch_is_answered_in_order_and_as_its_queries_are(client: TestClient, log: Log) -> None:
    queries = [{"user": str(user), "k": k} for user, k in zip(log.user_ids[:3], (3, 1, 2), strict=True)]
    batch = client.post("/recommend/batch", json={"queries": queries}).json()
    assert [len(answer["items"]) for answer in batch] == [3, 1, 2]
    for answer, query in zip(batch, queries, strict=True):
        alone = client.post("/recommend", json=query).json()
        assert ids(answer) == ids(alone)
        assert [one["score"] for one in answer["items"]] == pytest.approx([one["score"] for one in alone["items"]])
    items = log.catalog.ids.to_pylist()[:2]
    scored = client.post("/score/batch", json={"queries": [{"items": items}, {"items": items[1:]}]}).json()
    assert scored[0]["scores"][1] == pytest.approx(scored[1]["scores"][0])
    wrong = client.post("/recommend/batch", json={"queries": [*queries, {"user": "nobody at all"}]})
    assert wrong.status_code == 404


def test_an_event_changes_the_next_answer_of_every_process(serve: Serve, log: Log) -> None:
    here, there = serve(), serve()
    item = str(log.catalog.ids[0])
    event = {"user": "ada", "item": item, "at": "2030-01-01", "key": "once"}
    assert here.post("/recommend", json={"user": "ada"}).status_code == 404
    assert here.post("/events", json={"events": [event]}).json() == {"stored": 1, "repeated": 0}
    assert there.post("/events", json={"events": [event]}).json() == {"stored": 0, "repeated": 1}
    for client in (here, there):
        known = client.get("/users/ada").json()
        assert [(each["item"], each["at"]) for each in known["events"]] == [(item, 1893456000)]
    answers = [client.post("/recommend", json={"user": "ada", "k": 40}).json() for client in (here, there)]
    assert answers[0] == answers[1]
    assert item not in ids(answers[0])
    assert len(answers[0]["items"]) == len(log.catalog) - 1


def test_items_come_and_go_for_every_process_and_after_a_restart(serve: Serve) -> None:
    here, there = serve(), serve()
    everything = {"k": 100}
    assert here.post("/items", json={"items": [NEW]}).status_code == 201
    assert here.post("/items", json={"items": [NEW]}).status_code == 409
    event = {"user": "ada", "item": "new", "at": "2030-01-01"}
    assert there.post("/events", json={"events": [event]}).status_code == 201
    for client in (here, there, serve()):
        assert "new" in ids(client.post("/recommend", json=everything).json())
        assert client.get("/users/ada").json()["events"][0]["label"] == NEW["title"]
    assert there.delete("/items/new").status_code == 200
    for client in (here, serve()):
        assert "new" not in ids(client.post("/recommend", json=everything).json())
    assert here.post("/items/new/restore").status_code == 200
    assert "new" in ids(there.post("/recommend", json=everything).json())
    assert here.delete("/items/nothing").status_code == 404


def test_a_deleted_user_is_gone_everywhere_even_from_the_log(serve: Serve, log: Log) -> None:
    here, there = serve(), serve()
    user, other = str(log.user_ids[0]), str(log.user_ids[1])
    event = {"user": user, "item": str(log.catalog.ids[0]), "at": "2030-01-01"}
    here.post("/events", json={"events": [event, event | {"user": other}]})
    assert here.delete(f"/users/{user}").json() == {"user": user, "events": 1}
    assert here.delete(f"/users/{user}").status_code == 404
    for client in (here, there, serve()):
        assert client.post("/recommend", json={"user": user}).status_code == 404
        assert client.get(f"/users/{other}").json()["events"][-1]["at"] == 1893456000
    restarted = serve().app.state.service.engine.live
    never = LiveUsers(restarted.catalog, lambda: log, is_excluded=lambda one: one == user)
    never.observe(other, str(log.catalog.ids[0]), 1893456000)
    for name, sums in never.export_counts().items():  # as if they had never been there
        np.testing.assert_array_equal(restarted.export_counts()[name], sums)
    there.post("/events", json={"events": [event]})  # who comes back begins anew
    assert len(here.get(f"/users/{user}").json()["events"]) == 1


def test_new_texts_of_concurrent_requests_are_read_by_one_pass(serve: Serve) -> None:
    client = serve(max_wait_ms=2000.0, most_together=8)
    backbone, passes = client.app.state.service.engine.recommender.catalog.text_space.backbone, list[int]()
    backbone.register_forward_pre_hook(lambda _, inputs: passes.append(len(inputs[0])))
    with ThreadPoolExecutor(8) as threads:
        bodies = [{"items": [{"title": f"space robot {number}"}]} for number in range(8)]
        answers = list(threads.map(lambda body: client.post("/score", json=body), bodies))
    assert passes == [8]
    assert [answer.status_code for answer in answers] == [200] * 8
    alone = client.post("/score", json=bodies[3]).json()["scores"]
    assert alone == pytest.approx(answers[3].json()["scores"], abs=1e-5)
    assert passes == [8]  # it is still known
    assert "llmrec_texts_together_bucket" in client.get("/metrics").text


def test_answers_go_on_while_the_store_cannot_be_read(client: TestClient, tmp_path: Path) -> None:
    event = {"user": "ada", "item": "i1", "at": 5}
    client.post("/events", json={"events": [event]})
    assert client.post("/recommend", json={"user": "ada"}).status_code == 200  # which takes it in
    with closing(sqlite3.connect(tmp_path / "state.db")) as connection:
        connection.execute("ALTER TABLE ledger RENAME TO lost")
    assert client.post("/recommend", json={"user": "ada"}).status_code == 200
    assert client.get("/health").json()["status"] == "stale"
    answer = client.post("/events", json={"events": [event]})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert "ledger" not in answer.text
    with closing(sqlite3.connect(tmp_path / "state.db")) as connection:
        connection.execute("ALTER TABLE lost RENAME TO ledger")
    assert client.post("/events", json={"events": [event]}).status_code == 201
    assert len(client.get("/users/ada").json()["events"]) == 2
    assert client.get("/health").json()["status"] == "ok"


def test_why(client: TestClient, load: Callable[[], Recommender], log: Log) -> None:
    user, item = str(log.user_ids[0]), str(log.catalog.ids[5])
    told, expected = client.post("/explain", json={"user": user, "item": item}).json(), load().explain(user, item)
    assert (told["label"], told["sentence"]) == (expected.label, expected.sentence)
    assert told["start"] + sum(part["points"] for part in told["parts"]) == pytest.approx(told["total"])
    assert math.log(told["total"]) == pytest.approx(told["score"], abs=1e-5)
    assert told["unit"] == "log_probability"
    assert client.post("/explain", json={"user": user, "item": {"text": "space"}}).status_code == 200


def test_the_page_shows_parts_that_add_up(serve: Serve, log: Log) -> None:
    query = {"user": str(log.user_ids[0]), "item": str(log.catalog.ids[5])}
    answer = serve(page=True).post("/page/explain", json=query).json()
    for rows in (answer["terms"], answer["events"]):
        *parts, total = [Decimal(row["text"].removesuffix("%")) for row in rows]
        assert sum(parts) == total
        assert rows[-1]["label"] == "chance of being next"
    assert f"{answer['terms'][-1]['text']} chance of being next: " in answer["sentence"]


def test_scores_name_their_unit(client: TestClient) -> None:
    answer = client.post("/score", json={"items": ["i1", "i2"]}).json()
    assert answer["unit"] == "log_probability"
    (best,) = client.post("/recommend", json={"k": 1}).json()["items"]
    assert best["unit"] == "log_probability"
    described = client.get("/openapi.json").json()["components"]["schemas"]
    for name in ("ScoreResponse", "RankedItem", "Explanation"):
        assert "log_probability" in described[name]["properties"]["unit"]["enum"]
    undescribed = [
        f"{name}.{field}"
        for name, schema in described.items()
        if name != "Problem"
        for field, of_field in schema.get("properties", {}).items()
        if "description" not in of_field
    ]
    assert undescribed == []


WRONG = [
    ("/recommend", {"user": "nobody"}, 404),
    ("/recommend", {"history": ["no such item"]}, 422),
    ("/recommend", {"user": "a", "history": []}, 422),
    ("/recommend", {"histroy": []}, 422),
    ("/recommend", {"k": 0}, 422),
    ("/recommend", {"k": 10**6}, 422),
    ("/recommend", {"at": "yesterday"}, 422),
    ("/recommend", {"filters": ["color=red"]}, 422),
    ("/recommend", {"topic": " "}, 422),
    ("/score", {"items": ["no such item"]}, 422),
    ("/score", {"items": [{"text": "x" * 5000}]}, 422),
    ("/events", {"events": [{"user": "a", "item": "no such item", "at": 0}]}, 422),
    ("/events", {"events": [{"user": "a", "item": "i0", "at": 1e300}]}, 422),
    ("/items", {"items": [{"title": "no id"}]}, 422),
    ("/items", {"items": [{"item_id": "x", "title": "space", "color": "red"}]}, 422),
    ("/nowhere", {}, 404),
    ("/health", {}, 405),
]


def test_what_goes_wrong_is_told_as_a_problem(client: TestClient) -> None:
    for path, body, status in WRONG:
        answer = client.post(path, json=body)
        assert answer.status_code == status, (path, body, answer.text)
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["status"] == status
        assert answer.json()["detail"]
