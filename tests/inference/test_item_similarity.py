"""Items that lie near to each other: by text, by model, and in another catalog."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from llmrec.config.backbone import Strategy
from llmrec.errors import BundleError, ConfigError, DataError
from llmrec.hub.bundle import Bundle, save_bundle
from llmrec.inference.item_similarity import find_nearest_pairs
from llmrec.inference.text_space import cosine_matrix
from llmrec.recommender import Recommender

Load = Callable[..., Recommender]


def by_hand(mine: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """(N,) cosines."""
    return theirs @ mine / np.linalg.norm(mine) / np.linalg.norm(theirs, axis=1)


def test_cosines_by_hand() -> None:
    assert cosine_matrix(torch.tensor([[3.0, 4.0]]), torch.tensor([[1.0, 0.0], [0.0, 2.0], [-3.0, -4.0]])).tolist() == [
        pytest.approx([0.6, 0.8, -1.0])
    ]


def test_similar_items_are_those_of_the_nearest_centred_text(recommender: Recommender) -> None:
    text = recommender.catalog.text_space.vectors.numpy()
    centered = text - text.mean(0)
    expected = by_hand(centered[3], centered)
    found = recommender.similar_items("i3", k=5)
    assert [one.item for one in found] == [f"i{row}" for row in np.argsort(-expected) if row != 3][:5]
    assert [one.score for one in found] == pytest.approx(sorted(np.delete(expected, 3))[:-6:-1], abs=1e-5)
    assert len(recommender.similar_items("i3", k=99)) == 39  # itself is left out


def test_similar_items_of_the_model_are_those_it_sees_alike(recommender: Recommender) -> None:
    vectors = recommender.catalog.scorer.scoring_items.numpy()
    expected = by_hand(vectors[3], vectors)
    found = recommender.similar_items("i3", k=39, by="model")
    assert [one.score for one in found] == pytest.approx(sorted(np.delete(expected, 3))[::-1], abs=1e-5)


def test_an_item_by_its_text_is_like_the_same_item(recommender: Recommender) -> None:
    title = str(recommender.catalog.items.fields["title"][3])
    for given in ({"title": title}, {"text": title}):
        first, *rest = recommender.similar_items(given, k=5)
        assert (first.item, first.score) == ("i3", pytest.approx(1.0))
        known = recommender.similar_items("i3", k=4)
        assert [one.item for one in rest] == [one.item for one in known]
        assert [one.score for one in rest] == pytest.approx([one.score for one in known], abs=1e-5)


def test_an_added_item_is_found_at_once(recommender: Recommender) -> None:
    recommender.catalog.add([{"item_id": "twin", "title": str(recommender.catalog.items.fields["title"][3])}])
    first = recommender.similar_items("i3", k=1)[0]
    assert (first.item, first.score) == ("twin", pytest.approx(1.0, abs=1e-5))


def test_another_catalog_is_looked_through_by_text_each_less_its_own_mean(load: Load) -> None:
    here, there = load(), load(name="there")
    there.catalog.add([{"item_id": "far", "title": "love war drama"}, {"item_id": "near", "title": "red mini"}])
    mine, theirs = here.catalog.text_space.vectors.numpy(), there.catalog.text_space.vectors.numpy()
    expected = by_hand(mine[3] - mine.mean(0), theirs - theirs.mean(0))
    found = here.similar_items("i3", k=42, catalog=there.catalog)
    assert {one.item: one.score for one in found} == pytest.approx(
        dict(zip(there.catalog.ids.to_pylist(), expected.tolist(), strict=True)), abs=1e-5
    )
    assert found[0].item == "i3"  # another catalog's item of the same text is a find


def test_catalogs_that_cannot_be_compared_are_refused(
    load: Load, make_bundle: Callable[[Strategy], Bundle], tmp_path: Path, tiny_gpt2: Path
) -> None:
    frozen, lora = load(), load("lora", name="lora")
    with pytest.raises(ConfigError, match="trained apart"):
        frozen.similar_items("i3", catalog=lora.catalog)
    assert len(lora.similar_items("i3", catalog=Recommender.from_pretrained(tmp_path / "lora").catalog)) == 10
    with pytest.raises(ConfigError, match="spaces of their own"):
        frozen.similar_items("i3", by="model", catalog=lora.catalog)
    with pytest.raises(ConfigError, match="on ids alone"):
        frozen.similar_items("i3", catalog=load("none", name="ids").catalog)
    bundle = make_bundle("frozen")
    assert bundle.base is not None
    longer = replace(bundle.config.backbone, max_tokens=99)
    for base, backbone, told in (
        (replace(bundle.base, hub_id="owner/other", fingerprint="0"), bundle.config.backbone, "owner/other"),
        (replace(bundle.base, fingerprint="0"), longer, "max_tokens 64 and 99"),
        (replace(bundle.base, fingerprint="0"), bundle.config.backbone, "other weights or tokenizers"),
    ):
        changed = replace(bundle, base=base, config=replace(bundle.config, backbone=backbone))
        save_bundle(tmp_path / "other", changed)
        with pytest.raises(ConfigError, match=told):
            frozen.similar_items("i3", catalog=Recommender.from_pretrained(tmp_path / "other").catalog)


def test_mistakes_are_named(load: Load) -> None:
    recommender = load("none")
    with pytest.raises(ConfigError, match="k=0"):
        recommender.similar_items("i3", k=0, by="model")
    with pytest.raises(ConfigError, match="by='color'"):
        recommender.similar_items("i3", by="color")
    with pytest.raises(DataError, match="nope"):
        recommender.similar_items("nope", by="model")
    with pytest.raises(BundleError, match="item ids only"):
        recommender.similar_items("i3")
    assert len(recommender.similar_items("i3", by="model")) == 10


def test_nearest_pairs_take_each_row_once() -> None:
    mine, theirs = torch.eye(3), torch.tensor([[1.0, 0.2, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    pairs = find_nearest_pairs(mine, theirs, 2)
    assert [(row, column) for row, column, _ in pairs] == [(0, 1), (2, 2)]
    assert [round(value, 4) for *_, value in find_nearest_pairs(mine, theirs, 9)] == [
        1.0,
        1.0,
        0.1961,
    ]  # .2 / sqrt(1.04)
    assert find_nearest_pairs(mine, theirs[:0], 5) == []
