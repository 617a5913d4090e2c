"""A recommender answers the same by an index as by a scan."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from llmrec.errors import ConfigError
from llmrec.hub.bundle import Bundle
from llmrec.inference.ranked_items import Recommendation
from llmrec.recommender import Recommender
from llmrec.search.faiss_index import FaissIndex
from llmrec.search.index import ExactIndex

HISTORIES = [[f"i{row}" for row in range(0, 24, 3)], ["i7"], [], [("i1", "2024-01-01"), ({"text": "space love"}, 9)]]
NEEDS = {"ivf": "faiss", "sq8": "faiss", "hnsw": "faiss", "milvus": "milvus_lite"}


@pytest.fixture(params=["exact", *NEEDS])
def indexed(request: pytest.FixtureRequest, load: Callable[..., Recommender], tmp_path: Path) -> Recommender:
    """With an index of each kind."""
    recommender, name = load(), request.param
    if name in NEEDS:
        pytest.importorskip(NEEDS[name], reason=f"needs {NEEDS[name]}")
    recommender.index.use(f"milvus:{tmp_path / 'items.db'}" if name == "milvus" else name)
    return recommender


def assert_same(recommender: Recommender, **asked: object) -> list[list[Recommendation]]:
    index, recommender.index.index = recommender.index.index, None
    expected = recommender.batch.recommend(HISTORIES, **asked)
    recommender.index.index = index
    found = recommender.batch.recommend(HISTORIES, **asked)
    for mine, theirs in zip(found, expected, strict=True):
        assert [one.item for one in mine] == [one.item for one in theirs]
        assert [one.score for one in mine] == pytest.approx([one.score for one in theirs], abs=1e-5)
    return found


def test_answers_are_those_of_a_scan(indexed: Recommender) -> None:
    for k in (1, 5, 35, 99):  # of 40 items
        assert_same(indexed, k=k)
    assert_same(indexed, k=5, include_seen=True)
    assert_same(indexed, k=5, at="2024-01-02")
    assert_same(indexed, k=5, query="love war")
    for share in (0.1, 0.5, 0.9):
        found = assert_same(indexed, k=30, filters=np.random.default_rng(0).random(40) < share)
        assert len(found[2]) == min(30, int((np.random.default_rng(0).random(40) < share).sum()))


def test_items_of_the_history_gain_exactly_what_they_gain_in_a_scan(indexed: Recommender) -> None:
    repeats = indexed.catalog.bundle.model.repeats
    assert repeats is not None
    for gain in (50.0, -50.0):
        repeats.set_weights(torch.full_like(repeats.weights, gain))
        for k in (1, 5, 35, 99):
            found = assert_same(indexed, k=k, include_seen=True)
        assert {one.item for one in found[0][:8]} == set(HISTORIES[0]) or gain < 0


def test_items_that_come_and_go_count_at_once(indexed: Recommender) -> None:
    indexed.catalog.add(
        [{"item_id": f"new{place}", "title": title} for place, title in enumerate(["love war", "space"])]
    )
    found = assert_same(indexed, k=42)
    assert {"new0", "new1"} < {one.item for one in found[1]}
    indexed.catalog.remove(["new0", "i3"])
    found = assert_same(indexed, k=42)
    assert {"new0", "i3"}.isdisjoint(one.item for one in found[1])
    indexed.catalog.restore(["i3"])
    assert "i3" in {one.item for one in assert_same(indexed, k=42)[1]}


def test_what_the_index_does_not_find_is_not_recommended_unless_too_few_are_left(recommender: Recommender) -> None:
    index = ExactIndex(9)
    recommender.index.use(index)
    best, second, *_ = (one.item for one in recommender.recommend(["i7"], k=5))
    index.remove(recommender.catalog.find_rows([best]))
    assert recommender.recommend(["i7"], k=5)[0].item == second
    index.remove(np.arange(36))  # four are left
    found = assert_same(recommender, k=5)
    assert found[1][0].item == best
    recommender.index.use(None)
    assert assert_same(recommender, k=5) == found


def test_a_drift_head_takes_no_index(
    make_bundle: Callable[..., Bundle], add_drift: Callable[..., Bundle], tmp_path: Path
) -> None:
    drifting = Recommender(add_drift(make_bundle("frozen")), tmp_path)
    with pytest.raises(ConfigError, match="need the scores of all items; use it without an index"):
        drifting.index.use("exact")


def test_an_index_has_to_fit(recommender: Recommender) -> None:
    index = ExactIndex(9)
    recommender.index.use(index)
    recommender.index.use(index)  # filled with this catalog
    index.remove(np.array([3]))
    with pytest.raises(ConfigError, match="it holds 39 items, and the catalog 40; give one that is empty"):
        recommender.index.use(index)
    with pytest.raises(ConfigError, match="index='nope'"):
        recommender.index.use("nope")


def test_a_hasty_index_still_finds_as_many(recommender: Recommender) -> None:
    pytest.importorskip("faiss", reason="needs faiss")
    recommender.index.use(FaissIndex(9, "hnsw", n_candidates=1))
    where = np.arange(40) % 2 == 0
    assert [len(found) for found in recommender.batch.recommend(HISTORIES, k=20, filters=where)] == [16, 20, 20, 20]
