"""Items of histories gain the same in lists, scores and explanations, for given histories and live users."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from llmrec.hub.bundle import Bundle
from llmrec.inference.seen_gains import insert_pairs
from llmrec.models.repeat_bias import N_FEATURES
from llmrec.recommender import Recommender
from llmrec.search.row_pairs import RowPairs
from llmrec.search.topk import TopK

HISTORIES = [["i7", "i2", "i7", "i39"], [], ["i5"] * 4, [{"text": "space love"}, "i1", {"text": "war"}]]


@pytest.fixture(params=["none", "frozen", "drift"])
def weighing(
    request: pytest.FixtureRequest,
    make_bundle: Callable[..., Bundle],
    add_drift: Callable[..., Bundle],
    tmp_path: Path,
    tiny_bert: Path,
) -> Recommender:
    """A saved and loaded recommender that weighs items of the history."""
    drifts = request.param == "drift"
    bundle = make_bundle("frozen" if drifts else request.param)
    repeats = bundle.model.repeats
    assert repeats is not None
    torch.manual_seed(4)
    repeats.set_weights(torch.randn(N_FEATURES))
    repeats.set_rates(np.arange(40) + 5, np.arange(40) // 3)
    Recommender(add_drift(bundle) if drifts else bundle, tmp_path).save_pretrained(tmp_path / "bundle")
    return Recommender.from_pretrained(tmp_path / "bundle", backbone=str(tiny_bert))


def histories_for(recommender: Recommender) -> list[list[object]]:
    texts = recommender.config.backbone.strategy != "none"
    return [[event for event in past if texts or not isinstance(event, dict)] for past in HISTORIES]


def test_lists_have_the_scores_of_items_and_of_their_order(weighing: Recommender) -> None:
    histories, ids = histories_for(weighing), weighing.catalog.ids.to_pylist()
    scores = weighing.batch.score(histories, [ids] * 4)
    for k in (3, 40):
        found = weighing.batch.recommend(histories, k=k, include_seen=True)
        for row, own in zip(found, scores, strict=True):
            assert [one.score for one in row] == pytest.approx(sorted(own, reverse=True)[:k], abs=1e-5)
            assert [own[ids.index(one.item)] for one in row] == pytest.approx([one.score for one in row], abs=1e-5)
    seen = weighing.batch.recommend(histories, k=40, include_seen=False)
    assert {"i7", "i2", "i39"}.isdisjoint(one.item for one in seen[0])


def test_an_item_gains_by_being_in_the_history(weighing: Recommender) -> None:
    model, catalog = weighing.catalog.bundle.model, weighing.catalog
    assert model.repeats is not None
    if catalog.drift is not None:
        pytest.skip("the mixture has no plain sum")
    gained = weighing.score(HISTORIES[0], ["i7", "i2", "i3"])
    weights = model.repeats.weights.clone()
    model.repeats.set_weights(torch.zeros(N_FEATURES))
    plain = weighing.score(HISTORIES[0], ["i7", "i2", "i3"])
    model.repeats.set_weights(weights)
    rows = torch.from_numpy(catalog.find_rows(["i7", "i2"]))
    expected = model.repeats(rows, torch.tensor([2, 3]), torch.tensor([2, 1])).tolist()
    assert np.subtract(gained, plain).tolist() == pytest.approx([*expected, 0.0], abs=1e-5)


def test_explanations_have_a_part_of_their_own_and_add_up(weighing: Recommender) -> None:
    for item in ("i7", "i3"):
        found = weighing.explain(HISTORIES[0], item)
        total = sum(part.points for part in found.parts)
        score = weighing.score(HISTORIES[0], [item])[0]
        if weighing.catalog.drift is None:
            assert found.start + total == pytest.approx(score, abs=1e-4)
        else:
            assert total == pytest.approx(np.exp(score), rel=1e-4)
        assert ("seen" in {part.term for part in found.parts}) == (item == "i7")
    text = {"text": "war"}
    if weighing.config.backbone.strategy != "none":
        found = weighing.explain([text, "i1"], text)
        assert "seen" in {part.term for part in found.parts}


def test_live_users_are_weighed_by_all_they_ever_took(weighing: Recommender) -> None:
    start = 1_800_000_000
    events = [(f"i{row % 40}", start + row * 60) for row in range(5)] + [("i9", start + 600 + row) for row in range(60)]
    weighing.live.observe_many([("ada", item, time) for item, time in events])
    at = start + 9_000
    ids = weighing.catalog.ids.to_pylist()
    live = weighing.recommend("ada", k=40, include_seen=True, at=at)
    assert len(live) == 40
    own = weighing.score("ada", ids, at=at)
    assert [one.score for one in live] == pytest.approx(sorted(own, reverse=True), abs=1e-5)
    if weighing.catalog.drift is None:
        assert own == pytest.approx(weighing.score(events, ids, at=at), abs=1e-5)


def test_added_items_gain_as_an_average_item(weighing: Recommender) -> None:
    if weighing.config.backbone.strategy == "none":
        pytest.skip("a model on ids takes no new items")
    weighing.catalog.add([{"item_id": "new", "title": "love war"}])
    found = {one.item: one.score for one in weighing.recommend(["new", "i3"], k=41, include_seen=True)}
    assert weighing.score(["new", "i3"], ["new"]) == pytest.approx([found["new"]], abs=1e-5)
    assert len(weighing.catalog.bundle.model.repeats.rate) == 41


def test_pairs_are_inserted_in_order() -> None:
    found = TopK(torch.tensor([[3.0, 1.0], [-torch.inf, -torch.inf]]), torch.tensor([[4, 0], [-1, -1]]))
    pairs = RowPairs(torch.tensor([0, 0, 1]), torch.tensor([2, 7, 5]))
    best = insert_pairs(found, pairs, torch.tensor([3.0, -torch.inf, 0.5]))
    assert best.item.tolist() == [[2, 4], [5, -1]]
    assert best.score.tolist() == [[3.0, 3.0], [0.5, -torch.inf]]
