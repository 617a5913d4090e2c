"""A bundle gives the scores it was saved with, or says why not; what is saved is whole and holds no person."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from safetensors.torch import load_file, save_file

from llmrec.backbones.text_backbone import TextBackbone
from llmrec.config.backbone import BackboneConfig, Strategy
from llmrec.drift.text_neighbors import center_and_normalize
from llmrec.errors import BundleError
from llmrec.evaluation.model_scorer import ModelScorer
from llmrec.hub.base_model import BaseModelInfo
from llmrec.hub.bundle import Bundle, load_backbone, load_bundle, save_bundle
from llmrec.hub.layout import LAYOUT, atomic_folder, hash_files
from llmrec.recommender import Recommender
from tests.closeness import assert_same

Make = Callable[..., Bundle]
TEXTS = ["new red shoes", "old hat"]
HISTORIES = [[], ["i1"], ["i3", "i2", "i9", "i3"]]


def rewrite_record(folder: Path, **changes: object) -> None:
    path = folder / LAYOUT.settings
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize("strategy", ["none", "frozen", "last_k", "lora", "peft", "full"])
def test_a_round_trip_changes_no_bit(make_bundle: Make, tmp_path: Path, tiny_bert: Path, strategy: Strategy) -> None:
    saved = make_bundle(strategy)
    save_bundle(tmp_path / "bundle", saved)
    loaded = load_bundle(tmp_path / "bundle")
    assert loaded.config == saved.config
    assert loaded.catalog.fields.equals(saved.catalog.fields)
    assert_same(ModelScorer(loaded.model).scoring_items, ModelScorer(saved.model).scoring_items)
    before, after = (Recommender(bundle, tmp_path / "bundle") for bundle in (saved, loaded))
    assert_same(after.batch.recommend(HISTORIES, k=40), before.batch.recommend(HISTORIES, k=40))
    if strategy == "none":
        with pytest.raises(BundleError, match="item ids only"):
            load_backbone(tmp_path / "bundle", loaded)
        return
    backbone = load_backbone(tmp_path / "bundle", loaded, backbone=str(tiny_bert))
    reference = saved.trained_backbone or TextBackbone.load(saved.config.backbone)
    tokens = backbone.tokenize(TEXTS)
    vectors = backbone.encode(tokens)
    assert_same(vectors, reference.encode(tokens))
    assert not any(parameter.requires_grad for parameter in backbone.parameters())
    untuned = TextBackbone.load(saved.config.backbone).encode(tokens)
    if strategy == "frozen":
        assert_same(vectors, untuned)
    else:
        assert not torch.allclose(vectors, untuned, atol=1e-3)


def test_peft_loads_the_adapter_alone(make_bundle: Make, tmp_path: Path, tiny_bert: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModel

    saved = make_bundle("lora")
    save_bundle(tmp_path / "bundle", saved)
    assert (
        json.loads((tmp_path / "bundle" / LAYOUT.adapter_config).read_text())["base_model_name_or_path"] == "owner/tiny"
    )
    model = PeftModel.from_pretrained(AutoModel.from_pretrained(tiny_bert), str(tmp_path / "bundle")).eval()
    assert saved.trained_backbone is not None
    ids, mask = saved.trained_backbone.tokenize(TEXTS).get_batch(torch.arange(2).numpy(), torch.device("cpu"))
    with torch.no_grad():
        hidden = model(input_ids=ids, attention_mask=mask).last_hidden_state * mask[..., None]
    vectors = torch.nn.functional.normalize(hidden.sum(1) / mask.sum(1, keepdim=True), dim=-1)
    torch.testing.assert_close(vectors, saved.trained_backbone.encode(saved.trained_backbone.tokenize(TEXTS)))


def test_altered_weights_do_not_pass_for_the_saved_ones(make_bundle: Make, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    save_bundle(folder, make_bundle("frozen"))
    weights = load_file(folder / LAYOUT.heads)
    save_file({name: weight * 1.01 for name, weight in weights.items()}, folder / LAYOUT.heads)
    with pytest.raises(BundleError, match=r"heads\.safetensors: not the file that was saved"):
        load_bundle(folder)
    rewrite_record(folder, files=hash_files(folder))  # even where the hash was altered with it
    with pytest.raises(BundleError, match="does not reproduce its own scores"):
        load_bundle(folder)


def test_other_versions_are_named_where_scores_differ(make_bundle: Make, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    save_bundle(folder, make_bundle("none"))
    probe = json.loads((folder / LAYOUT.settings).read_text())["probe"]
    probe["scores"][0][0] += 1
    versions = json.loads((folder / LAYOUT.settings).read_text())["versions"] | {"torch": "1.0"}
    rewrite_record(folder, probe=probe, versions=versions)
    with pytest.raises(BundleError, match=r"torch 1\.0 then"):
        load_bundle(folder)


@pytest.mark.parametrize("name", [LAYOUT.items, LAYOUT.catalog, LAYOUT.adapter, LAYOUT.settings])
def test_a_missing_file_is_named(make_bundle: Make, tmp_path: Path, name: str) -> None:
    save_bundle(tmp_path / "bundle", make_bundle("lora"))
    (tmp_path / "bundle" / name).unlink()
    with pytest.raises(BundleError, match=name.replace(".", r"\.")):
        load_bundle(tmp_path / "bundle")


def test_a_bundle_of_the_first_format_is_to_be_trained_again(make_bundle: Make, tmp_path: Path) -> None:
    save_bundle(tmp_path / "bundle", make_bundle("none"))
    rewrite_record(tmp_path / "bundle", format=1)
    with pytest.raises(BundleError, match=r"format 1 of an earlier llmrec.*Train it again"):
        load_bundle(tmp_path / "bundle")


@pytest.mark.parametrize(
    "record", [b"{", b'{"format": 99}', b'{"format": 3}', b'{"format": 3, "files": 3}', b"[]", b"\xff"]
)
def test_a_damaged_record_is_no_traceback(make_bundle: Make, tmp_path: Path, record: bytes) -> None:
    save_bundle(tmp_path / "bundle", make_bundle("none"))
    (tmp_path / "bundle" / LAYOUT.settings).write_bytes(record)
    with pytest.raises(BundleError):
        load_bundle(tmp_path / "bundle")


@pytest.mark.parametrize("name", [LAYOUT.heads, LAYOUT.items, LAYOUT.catalog])
def test_a_damaged_file_is_no_traceback(make_bundle: Make, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "bundle"
    save_bundle(folder, make_bundle("none"))
    (folder / name).write_bytes(b"half")
    rewrite_record(folder, files=hash_files(folder))
    with pytest.raises(BundleError, match="not readable as a bundle"):
        load_bundle(folder)


def test_a_folder_of_something_else_is_no_bundle(tmp_path: Path, tiny_bert: Path) -> None:
    for folder in (tmp_path, tiny_bert, tmp_path / "nowhere"):
        with pytest.raises(BundleError, match=r": not a bundle \(no llmrec\.json\)"):
            load_bundle(folder)


def test_another_base_model_is_refused(make_bundle: Make, tmp_path: Path, tiny_gpt2: Path) -> None:
    save_bundle(tmp_path / "bundle", make_bundle("lora"))
    with pytest.raises(BundleError, match="differ from the bundle's base owner/tiny"):
        load_backbone(tmp_path / "bundle", load_bundle(tmp_path / "bundle"), backbone=str(tiny_gpt2))


def test_what_differs_of_another_base_is_named(make_bundle: Make, tmp_path: Path, tiny_bert: Path) -> None:
    bundle = make_bundle("lora")
    assert bundle.base is not None
    save_bundle(tmp_path / "bundle", replace(bundle, base=replace(bundle.base, revision="abc")))
    other = Path(shutil.copytree(tiny_bert, tmp_path / "half"))
    weights = load_file(other / "model.safetensors")
    save_file({name: weight.half() for name, weight in weights.items()}, other / "model.safetensors", {"format": "pt"})
    settings = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(settings | {"dtype": "float16"}))
    differ = r"base revision abc then, unknown now; base dtype float32 then, float16 now"
    with pytest.raises(BundleError, match=differ):
        load_backbone(tmp_path / "bundle", load_bundle(tmp_path / "bundle"), backbone=str(other))


def test_heads_in_half_precision_are_named_as_such(make_bundle: Make, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    save_bundle(folder, make_bundle("none"))
    heads = load_file(folder / LAYOUT.heads)
    save_file({name: weight.bfloat16() for name, weight in heads.items()}, folder / LAYOUT.heads)
    rewrite_record(folder, files=hash_files(folder))
    with pytest.raises(BundleError, match=r"does not reproduce its own scores.*dtype float32 then, bfloat16 now"):
        load_bundle(folder)


def test_the_same_architecture_with_other_weights_is_refused(
    make_bundle: Make, tmp_path: Path, tiny_bert: Path
) -> None:
    save_bundle(tmp_path / "bundle", make_bundle("frozen"))
    other = Path(shutil.copytree(tiny_bert, tmp_path / "other"))
    weights = load_file(other / "model.safetensors")
    weights["embeddings.word_embeddings.weight"][7, 0] += 1e-3
    save_file(weights, other / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BundleError, match="weights or tokenizer differ"):
        load_backbone(tmp_path / "bundle", load_bundle(tmp_path / "bundle"), backbone=str(other))


def test_a_backbone_that_reads_otherwise_is_refused(make_bundle: Make, tmp_path: Path, tiny_bert: Path) -> None:
    folder = tmp_path / "bundle"
    save_bundle(folder, make_bundle("lora"))
    adapter = load_file(folder / LAYOUT.adapter)
    save_file({name: weight * -3 for name, weight in adapter.items()}, folder / LAYOUT.adapter)
    rewrite_record(folder, files=hash_files(folder))
    with pytest.raises(BundleError, match="does not encode the catalog as the bundle's did"):
        load_backbone(folder, load_bundle(folder), backbone=str(tiny_bert))


def test_nothing_but_a_bundle_is_replaced(make_bundle: Make, tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").write_text("keep")
    with pytest.raises(BundleError, match="notes: exists and is not a bundle"):
        save_bundle(tmp_path / "notes", make_bundle("none"))
    assert [path.name for path in (tmp_path / "notes").iterdir()] == ["mine.txt"]
    assert [path.name for path in tmp_path.iterdir()] == ["notes"]


def test_a_save_that_fails_leaves_the_old_bundle(make_bundle: Make, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    save_bundle(folder, make_bundle("none"))

    def half() -> None:
        with atomic_folder(folder) as partial:
            (partial / LAYOUT.heads).write_bytes(b"half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk"):
        half()
    load_bundle(folder)
    save_bundle(folder, make_bundle("frozen"))
    assert load_bundle(folder).base is not None
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_a_swap_that_fails_leaves_the_old_bundle(make_bundle: Make, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    save_bundle(folder, make_bundle("none"))
    with pytest.raises(OSError, match="partial"), atomic_folder(folder) as partial:
        shutil.rmtree(partial)  # nothing is there to take the old one's place
    load_bundle(folder)
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


@pytest.mark.parametrize("swapped", [False, True])
def test_what_a_killed_save_left_is_put_right(make_bundle: Make, tmp_path: Path, swapped: bool) -> None:
    folder = tmp_path / "bundle"
    save_bundle(folder, make_bundle("none"))
    gone = subprocess.run(["sh", "-c", "echo $$"], capture_output=True, text=True, check=True).stdout.strip()
    shutil.copytree(folder, tmp_path / f".bundle.{gone}.partial")
    if swapped:  # killed between the two renames
        folder.rename(tmp_path / f".bundle.{gone}.old")
    else:
        shutil.copytree(folder, tmp_path / f".bundle.{gone}.old")
    running = Path(shutil.copytree(tmp_path / f".bundle.{gone}.partial", tmp_path / f".bundle.{os.getppid()}.partial"))
    if swapped:
        load_bundle(folder)
        assert [path.name for path in tmp_path.iterdir() if path != running] == ["bundle"]
    save_bundle(folder, make_bundle("frozen"))
    assert load_bundle(folder).base is not None
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["bundle", running.name])  # not ours to remove


def test_only_plain_formats_and_no_one_s_history(make_bundle: Make, tmp_path: Path) -> None:
    save_bundle(tmp_path / "bundle", make_bundle("lora"))
    files = list((tmp_path / "bundle").iterdir())
    assert {path.suffix for path in files} == {".safetensors", ".json", ".parquet", ".md"}
    assert not [path.name for path in files if b'"u1"' in path.read_bytes()]  # the planted users are u0, u1, ...


def test_the_backbone_is_named_by_the_hub_and_not_by_a_path(make_bundle: Make, tmp_path: Path) -> None:
    save_bundle(tmp_path / "bundle", make_bundle("frozen"))
    base = load_bundle(tmp_path / "bundle").base
    assert base is not None
    assert base.hub_id == "owner/tiny"
    assert (
        base.fingerprint
        == TextBackbone.load(BackboneConfig(name=make_bundle("frozen").config.backbone.name)).fingerprint()
    )


@pytest.mark.parametrize("strategy", ["last_k", "lora", "full"])
def test_a_loaded_bundle_is_saved_whole_without_its_base(
    make_bundle: Make, tmp_path: Path, tiny_bert: Path, strategy: Strategy
) -> None:
    saved = make_bundle(strategy)
    save_bundle(tmp_path / "bundle", saved)
    save_bundle(tmp_path / "copy", load_bundle(tmp_path / "bundle"))  # the hub's owner/tiny is out of reach
    backbone = load_backbone(tmp_path / "copy", load_bundle(tmp_path / "copy"), backbone=str(tiny_bert))
    tokens = backbone.tokenize(TEXTS)
    assert isinstance(saved.trained_backbone, TextBackbone)
    assert_same(backbone.encode(tokens), saved.trained_backbone.encode(tokens))


def test_weights_that_changed_after_loading_are_refused(make_bundle: Make, tmp_path: Path, tiny_bert: Path) -> None:
    folder = tmp_path / "bundle"
    save_bundle(folder, make_bundle("lora"))
    bundle = load_bundle(folder)
    (folder / LAYOUT.adapter).write_bytes(b"other")
    with pytest.raises(BundleError, match="sha256 differs"):
        load_backbone(folder, bundle, backbone=str(tiny_bert))
    with pytest.raises(BundleError, match="sha256 differs"):
        save_bundle(tmp_path / "copy", bundle)
    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize("name", [LAYOUT.heads, LAYOUT.adapter])
def test_a_file_that_the_record_hides_is_missed(make_bundle: Make, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "bundle"
    save_bundle(folder, make_bundle("lora"))
    (folder / name).unlink()
    rewrite_record(folder, files=hash_files(folder))
    with pytest.raises(BundleError, match=name.replace(".", r"\.")):
        load_bundle(folder)


def test_columns_keep_their_types(make_bundle: Make, tmp_path: Path) -> None:
    bundle = make_bundle("none")
    seen = pa.array([0] * len(bundle.catalog)).cast(pa.timestamp("s"))  # of which parquet has none
    catalog = replace(bundle.catalog, fields=bundle.catalog.fields.append_column("seen", seen), template="{seen}")
    save_bundle(tmp_path / "bundle", replace(bundle, catalog=catalog))
    loaded = load_bundle(tmp_path / "bundle").catalog
    assert loaded.fields.equals(catalog.fields)
    assert loaded.list_texts() == catalog.list_texts()


def test_a_bundle_goes_through_a_link_and_into_the_working_folder(
    make_bundle: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    save_bundle(tmp_path / "link", make_bundle("none"))
    assert (tmp_path / "link").is_symlink()
    monkeypatch.chdir(tmp_path / "real")
    save_bundle(Path(), make_bundle("none"))
    load_bundle(tmp_path / "real")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "real"]


def test_the_revision_is_the_one_that_was_loaded(make_bundle: Make) -> None:
    config = make_bundle("frozen").config.backbone
    named, newest = TextBackbone.load(config), TextBackbone.load(config)
    named.config = replace(config, revision="v2")
    newest.model.config._commit_hash = "abc"  # as transformers notes it of a hub's default branch
    assert [BaseModelInfo.from_backbone(one).revision for one in (named, newest)] == ["v2", "abc"]


@pytest.mark.parametrize("strategy", ["none", "frozen", "lora", "full"])
def test_the_drift_head_keeps_every_bit(make_bundle: Make, add_drift: Make, tmp_path: Path, strategy: Strategy) -> None:
    saved = add_drift(make_bundle(strategy))
    save_bundle(tmp_path / "bundle", saved)
    loaded = load_bundle(tmp_path / "bundle")
    assert saved.drift is not None
    assert loaded.drift is not None
    assert loaded.drift.transition_half_life_days == 30.0
    before, after = saved.drift.head.state_dict(), loaded.drift.head.state_dict()
    assert list(before) == list(after)
    assert all(torch.equal(before[name], after[name]) for name in before)
    stored = "text" in load_file(tmp_path / "bundle" / LAYOUT.drift)
    assert stored is (strategy in ("lora", "full"))  # else the item table has the same vectors
    vectors = loaded.drift.unit_vectors()
    if strategy == "none":
        assert vectors is None
        return
    assert saved.drift.text is not None
    assert vectors is not None
    assert torch.equal(vectors, center_and_normalize(saved.drift.text))  # what the chain is fitted on
    save_bundle(tmp_path / "copy", loaded)
    again = load_bundle(tmp_path / "copy").drift
    assert again is not None
    assert torch.equal(again.unit_vectors(), vectors)


@pytest.mark.parametrize("strategy", ["frozen", "lora"])
def test_items_that_are_added_move_no_state(
    make_bundle: Make, add_drift: Make, tmp_path: Path, tiny_bert: Path, strategy: Strategy
) -> None:
    folder, saved = tmp_path / "bundle", add_drift(make_bundle(strategy))
    save_bundle(folder, saved)
    grown = Recommender.from_pretrained(folder, backbone=str(tiny_bert))
    grown.catalog.add([{"item_id": "new", "title": "space robot"}])
    grown.save_pretrained(folder)
    drift = load_bundle(folder).drift
    assert saved.drift is not None
    assert drift is not None
    untrained = TextBackbone.load(saved.config.backbone)
    vectors, read = drift.unit_vectors(), drift.unit_vectors(untrained.encode(untrained.tokenize(["space robot"])))
    assert_same(vectors[:-1], saved.drift.unit_vectors())
    torch.testing.assert_close(vectors[-1:], read)


def test_text_neighbours_are_found_once(make_bundle: Make, add_drift: Make, tmp_path: Path) -> None:
    saved = add_drift(make_bundle("frozen"))
    assert saved.drift is not None
    found = saved.drift.build_serving_stream(saved.config.drift, "strict", len(saved.catalog)).text
    save_bundle(tmp_path / "bundle", replace(saved, drift=replace(saved.drift, text_neighbors=found)))
    kept = load_bundle(tmp_path / "bundle").drift
    assert kept is not None
    assert kept.text_neighbors is not None
    again = kept.build_serving_stream(saved.config.drift, "strict", len(saved.catalog)).text
    assert again is kept.text_neighbors
    np.testing.assert_array_equal(again.toarray(), found.toarray())


def test_bundles_from_before_drift_heads_were_kept_still_load(
    make_bundle: Make, add_drift: Make, tmp_path: Path
) -> None:
    save_bundle(tmp_path / "bundle", replace(add_drift(make_bundle("frozen")), drift=None))
    path = tmp_path / "bundle" / LAYOUT.settings
    record = json.loads(path.read_text())
    del record["drift"]
    path.write_text(json.dumps(record))
    assert load_bundle(tmp_path / "bundle").drift is None
    assert not (tmp_path / "bundle" / LAYOUT.drift).exists()


def test_a_missing_drift_head_is_named(make_bundle: Make, add_drift: Make, tmp_path: Path) -> None:
    save_bundle(tmp_path / "bundle", add_drift(make_bundle("frozen")))
    (tmp_path / "bundle" / LAYOUT.drift).unlink()
    with pytest.raises(BundleError, match=r"drift\.safetensors"):
        load_bundle(tmp_path / "bundle")
