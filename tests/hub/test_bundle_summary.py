"""The summary of a bundle says what it was trained on, what its scores are, and how well it did."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from llmrec.config.backbone import Strategy
from llmrec.hub.bundle import Bundle
from llmrec.hub.bundle_summary import summarize_bundle

ROW = {"model": "llmrec", "metric": "ndcg@10", "slice": "overall", "split": "by_time", "n": 1200}


def test_a_bundle_of_ids(make_bundle: Callable[[Strategy], Bundle]) -> None:
    found = summarize_bundle(make_bundle("none"))
    assert found["backbone"] == "none, items are known by id alone"
    assert found["drift head"] == "none, scores are logits (differences are log-odds)"
    assert found["items"] == "40, text '{title}'"
    assert found["log"].endswith("180 events by 30 users")


def test_a_bundle_with_a_drift_head(
    make_bundle: Callable[[Strategy], Bundle], add_drift: Callable[..., Bundle]
) -> None:
    evaluation = {"main": "llmrec", "primary": "ndcg@10", "rows": [ROW | {"value": 0.05, "low": 0.04, "high": 0.06}]}
    found = summarize_bundle(replace(add_drift(make_bundle("lora")), evaluation=evaluation))
    assert found["backbone"].endswith(", lora")
    assert found["drift head"] == (
        "interest, environment, transitions, chain, gate; scores are log-probabilities of being next"
    )
    assert found["test"] == "ndcg@10 0.0500 (by_time, 1,200 queries, 95% interval 0.0400 to 0.0600)"
