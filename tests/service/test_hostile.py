"""What is not meant well, or was not thought of, ends in a problem that tells what is wrong, and never in a fault."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from starlette.testclient import TestClient

from llmrec.errors import ConfigError
from llmrec.service.problem_details import MEDIA_TYPE
from llmrec.service.settings import RequestLimits, ServiceSettings
from tests.service.hostile import BODIES, ODD_PATHS, PATHS

if TYPE_CHECKING:
    from tests.service.conftest import Serve


def test_no_body_makes_a_fault(client: TestClient) -> None:
    for path in PATHS:
        for body in BODIES:
            answer = client.post(path, content=body, headers={"content-type": "application/json"})
            assert answer.status_code < 500, (path, body[:80], answer.text)
            if answer.status_code >= 400:
                assert answer.headers["content-type"] == MEDIA_TYPE
                assert len(answer.content) < 20_000
    for path in ODD_PATHS:
        for method in ("GET", "DELETE", "POST", "PATCH"):
            answer = client.request(method, path)
            assert answer.status_code < 500, (method, path, answer.text)
    assert client.get("/health").json()["status"] == "ok"


def test_limits(serve: Serve) -> None:
    limits = RequestLimits(body_bytes=2000, history=3, batch=2, items=3, text=50, k=5)
    client = serve(limits=limits)

    def status(path: str, body: dict) -> int:
        return client.post(path, json=body).status_code

    assert status("/recommend", {"history": ["i1", "i2", "i3"], "k": 5}) == 200
    assert status("/recommend", {"history": ["i1"] * 4}) == 422
    assert status("/recommend", {"k": 6}) == 422
    assert status("/recommend/batch", {"queries": [{}, {}, {}]}) == 422
    assert status("/score", {"items": ["i1"] * 4}) == 422
    assert status("/score", {"items": [{"text": "x" * 51}]}) == 422
    assert status("/items", {"items": [{"item_id": str(each), "title": "war"} for each in range(3)]}) == 422
    assert status("/events", {"events": [{"user": "a", "item": "i1", "at": 5}] * 3}) == 422
    assert status("/recommend", {"history": ["x" * 500] * 5}) == 413


def test_a_body_of_untold_length_is_cut_off(serve: Serve) -> None:
    client = serve(limits=RequestLimits(body_bytes=1000))

    def pieces() -> Iterator[bytes]:
        for _ in range(100):
            yield b" " * 100

    answer = client.post("/recommend", content=pieces(), headers={"content-type": "application/json"})
    assert answer.status_code == 413
    assert "1,000 bytes" in answer.json()["detail"]


def test_the_key_is_asked_for(serve: Serve) -> None:
    client = serve(api_key="sesame ü")
    assert client.get("/health").status_code == 200
    for headers in ({}, {"x-api-key": "wrong"}, {"authorization": "Basic sesame"}, {"authorization": "Bearer x"}):
        answer = client.post("/recommend", json={}, headers=headers)
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert client.get("/metrics", headers=headers).status_code == 401
    key = "sesame ü".encode()
    assert client.post("/recommend", json={}, headers={"x-api-key": key}).status_code == 200
    assert client.get("/metrics", headers={"authorization": b"Bearer " + key}).status_code == 200
    schema = client.get("/openapi.json").json()
    assert schema["components"]["securitySchemes"]["APIKeyHeader"]["name"] == "X-API-Key"


def test_only_the_names_it_has_are_answered_to(serve: Serve) -> None:
    client = serve(hosts=("127.0.0.1", "localhost"))
    assert client.get("/health", headers={"host": "127.0.0.1:8000"}).status_code == 200
    assert client.get("/health", headers={"host": "evil.example:8000"}).status_code == 421
    assert client.get("/health", headers={"host": "localhost.evil.example"}).status_code == 421


def test_settings_that_contradict_themselves() -> None:
    for wrong in ({"api_key": " "}, {"page": True, "api_key": "x"}, {"max_wait_ms": -1}, {"most_together": 0}):
        with pytest.raises(ConfigError):
            ServiceSettings(**wrong)
    with pytest.raises(ConfigError, match=r"limits\.k=0"):
        RequestLimits(k=0)


def test_metrics_and_openapi(client: TestClient) -> None:
    client.post("/recommend", json={})
    client.get("/nowhere")
    text = client.get("/metrics").text
    assert 'llmrec_requests_total{method="POST",route="/recommend",status="200"} 1.0' in text
    assert 'route="none",status="404"' in text
    assert "llmrec_live_users 30.0" in text
    assert "llmrec_batch_size_count 1.0" in text
    schema = client.get("/openapi.json").json()
    assert {"/recommend", "/score", "/explain", "/events", "/items", "/users/{user}"} <= set(schema["paths"])
    assert "HTTPValidationError" not in json.dumps(schema)
    assert schema["components"]["schemas"]["EventsRequest"]["properties"]["events"]["examples"]
