"""Bundles whose histories the backbone encodes: they bring it along, answer as before, and know what is added."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from llmrec.config.backbone import Strategy
from llmrec.config.model import HistoryEncoderName, HistoryTextConfig
from llmrec.errors import BackboneError, BundleError
from llmrec.hub.bundle import Bundle, load_backbone, load_bundle, save_bundle
from llmrec.hub.layout import LAYOUT, hash_files
from llmrec.recommender import Recommender
from tests.closeness import assert_same

HISTORIES = [[], ["i1"], ["i3", "i2", "i9", "i3"]]
Make = Callable[..., Bundle]


@pytest.fixture
def bundle_of(make_bundle: Make, tiny_bert: Path, tiny_gpt2: Path) -> Make:
    def make(strategy: Strategy, encoder: HistoryEncoderName, family: str) -> Bundle:
        path = {"bert": tiny_bert, "gpt2": tiny_gpt2}[family]
        text = HistoryTextConfig(max_tokens=100)
        return make_bundle(strategy, path, history_encoder=encoder, history_text=text, max_history=8)

    return make


@pytest.mark.parametrize("strategy", ["frozen", "last_k", "lora", "full"])
@pytest.mark.parametrize(("encoder", "family"), [("backbone", "gpt2"), ("text", "bert")])
def test_a_round_trip_changes_no_score(
    bundle_of: Make, tmp_path: Path, strategy: Strategy, encoder: HistoryEncoderName, family: str
) -> None:
    saved, folder = bundle_of(strategy, encoder, family), tmp_path / "bundle"
    path = saved.config.backbone.name
    save_bundle(folder, saved)
    assert (folder / LAYOUT.adapter).exists() is (strategy == "lora")
    assert (folder / LAYOUT.backbone).exists() is (strategy in ("last_k", "full"))
    before, after = Recommender(saved, folder), Recommender.from_pretrained(folder, backbone=path)
    expected = before.batch.recommend(HISTORIES, k=40, at="2024-01-01")
    assert_same(after.batch.recommend(HISTORIES, k=40, at="2024-01-01"), expected)
    assert (
        after.catalog.text_space.backbone is after.catalog.bundle.model.histories.reader.backbone
    )  # one in memory, not two
    after.save_pretrained(tmp_path / "copy")
    again = Recommender.from_pretrained(tmp_path / "copy", backbone=path)
    assert_same(again.batch.recommend(HISTORIES, k=40, at="2024-01-01"), expected)


@pytest.mark.parametrize(("encoder", "family"), [("backbone", "gpt2"), ("text", "bert")])
def test_added_items_stand_in_histories_too(
    bundle_of: Make, tmp_path: Path, encoder: HistoryEncoderName, family: str
) -> None:
    saved, folder = bundle_of("lora", encoder, family), tmp_path / "bundle"
    save_bundle(folder, saved)
    grown = Recommender.from_pretrained(folder, backbone=saved.config.backbone.name)
    grown.catalog.add([{"item_id": "new", "title": "space robot"}, {"item_id": "other", "title": "war night"}])
    scores = grown.score(["i1", "new"], ["i2", "new"])
    assert scores != pytest.approx(grown.score(["i1", "other"], ["i2", "new"]), abs=1e-4)
    grown.save_pretrained(folder)
    again = Recommender.from_pretrained(folder, backbone=saved.config.backbone.name)
    assert again.score(["i1", "new"], ["i2", "new"]) == pytest.approx(scores, rel=1e-5, abs=1e-5)


@pytest.mark.parametrize(("encoder", "family"), [("backbone", "gpt2"), ("text", "bert")])
def test_other_trained_weights_do_not_pass_for_the_saved_ones(
    bundle_of: Make, tmp_path: Path, encoder: HistoryEncoderName, family: str
) -> None:
    """Even where hashes were altered too, and nothing looks at item texts: the histories of the probe tell."""
    saved, folder = bundle_of("full", encoder, family), tmp_path / "bundle"
    path = saved.config.backbone.name
    save_bundle(folder, saved)
    weights = load_file(folder / LAYOUT.backbone)
    moved = {name: weight + 0.05 * torch.randn_like(weight) for name, weight in weights.items()}
    save_file(moved, folder / LAYOUT.backbone)
    with pytest.raises(BundleError, match=r"backbone\.safetensors: not the file that was saved"):
        load_bundle(folder, path)
    record = json.loads((folder / LAYOUT.settings).read_text())
    (folder / LAYOUT.settings).write_text(json.dumps(record | {"files": hash_files(folder)}))
    with pytest.raises(BundleError, match="does not encode the catalog as the bundle's did"):
        load_bundle(folder, path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("llmrec.hub.probe.MIN_COSINE", -1.0)
        with pytest.raises(BundleError, match="does not reproduce its own scores"):
            load_bundle(folder, path)


def test_without_its_base_the_remedy_is_named(bundle_of: Make, tmp_path: Path) -> None:
    save_bundle(tmp_path / "bundle", bundle_of("lora", "text", "bert"))
    with pytest.raises(BackboneError, match="owner/tiny"):
        load_bundle(tmp_path / "bundle")
    with pytest.raises(BundleError, match="differ from the bundle's base"):
        load_bundle(tmp_path / "bundle", "packaged:all-MiniLM-L6-v2")


def test_the_backbone_that_came_with_the_bundle_is_not_loaded_again(bundle_of: Make, tmp_path: Path) -> None:
    saved = bundle_of("frozen", "text", "bert")
    save_bundle(tmp_path / "bundle", saved)
    loaded = load_bundle(tmp_path / "bundle", saved.config.backbone.name)
    assert load_backbone(tmp_path / "bundle", loaded) is loaded.model.histories.reader.backbone
