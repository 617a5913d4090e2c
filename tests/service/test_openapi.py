"""Requests made up from the service's own description of itself, and against it: answers are what it describes."""

from __future__ import annotations

import os
from typing import Any

import pytest

pytest.importorskip("schemathesis", reason="needs schemathesis (extra: dev)")

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from starlette.testclient import TestClient

N_EXAMPLES = int(os.environ.get("LLMREC_FUZZ", "6"))  # of each operation and mode
CHECKS = [not_a_server_error, content_type_conformance, response_schema_conformance, status_code_conformance]


@pytest.mark.parametrize("mode", ["positive", "negative"])
def test_answers_are_as_they_are_described(client: TestClient, mode: str) -> None:
    schema = schemathesis.openapi.from_dict(client.get("/openapi.json").json())
    operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) == 13
    for operation in operations:
        if mode == "negative" and not operation.body and not list(operation.iter_parameters()):
            continue  # nothing is asked for, so nothing can be wrong
        asked(client, operation, schemathesis.GenerationMode(mode))


def asked(client: TestClient, operation: Any, mode: Any) -> None:
    seen = list[int]()

    @settings(
        max_examples=N_EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def run(case: Any) -> None:
        sent = case.as_transport_kwargs(base_url=str(client.base_url))
        sent.pop("cookies", None)
        if "data" in sent:
            sent["content"] = sent.pop("data")
        answer = client.request(**sent)
        seen.append(answer.status_code)
        case.validate_response(answer, checks=CHECKS)

    run()
    assert seen
