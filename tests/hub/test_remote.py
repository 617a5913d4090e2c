"""What is pushed comes back to the bit, whole or not at all; who may not see it, or has changed it, is told so."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from llmrec.config.backbone import Strategy
from llmrec.config.data import DataConfig
from llmrec.data.log import Log
from llmrec.errors import BundleError
from llmrec.hub.bundle import Bundle, load_bundle, save_bundle
from llmrec.hub.layout import LAYOUT, hash_files
from llmrec.hub.remote import push_bundle, resolve_bundle, strip_private_paths
from llmrec.recommender import Recommender
from tests.closeness import assert_same

Make = Callable[..., Bundle]
Visit = Callable[..., Any]
HISTORIES = [[], ["i1"], ["i3", "i2", "i9", "i3"]]
TEXT = "a robot of the river"
ROOT = Path(__file__).resolve().parents[2]
PUSHED = "A recommender, by llmrec"


def answers(folder: Path, text: str | None = TEXT, **options: Any) -> dict[str, Any]:
    """As visitor.py gives them, in this process."""
    recommender = Recommender.from_pretrained(folder, **options)
    ids = recommender.catalog.ids.to_pylist()
    found = {"n_items": len(ids), "scores": [recommender.score(history, ids) for history in HISTORIES]}
    return found if text is None else found | {"text": recommender.score(["i1"], [{"text": text}])}


def tree(hub: Any, repo: str, branch: str = "main") -> set[str]:
    """Names of the files there, but the hub's own."""
    held = hub.repos[repo]
    return set(held.commits[held.branches[branch]].tree) - {".gitattributes"}


def refuse(hub: Any, method: str, path: str) -> None:
    """Requests of that kind find the disk full."""

    def broken(asked: str, place: str) -> None:
        if asked == method and re.search(path, place):
            raise hub.refusal(413, "", "No room is left")

    hub.broken = broken


@pytest.mark.parametrize("strategy", ["none", "frozen", "lora", "full"])
def test_what_comes_back_answers_to_the_bit(
    make_bundle: Make, visit: Visit, hub: Any, tiny_bert: Path, tmp_path: Path, strategy: Strategy
) -> None:
    save_bundle(tmp_path / "bundle", make_bundle(strategy))
    repo = f"owner/{strategy}"
    address = visit("push", tmp_path / "bundle", repo, backbone=tiny_bert)
    assert address == f"{hub.url}/{repo}/commit/{hub.repos[repo].branches['main']}"
    assert hub.repos[repo].log("main") == [PUSHED, "initial commit"]
    assert tree(hub, repo) == {path.name for path in (tmp_path / "bundle").iterdir()}
    text = None if strategy == "none" else TEXT
    there = visit("answers", repo, text)  # whose base comes from the hub as well
    assert not there.pop("folder").startswith(str(tmp_path))
    assert_same(there, answers(tmp_path / "bundle", text, backbone=str(tiny_bert)))


def test_a_dropped_adapter_is_not_saved_and_a_push_says_so(
    make_bundle: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    reason = "llmrec (LoRA): adapted weights dropped; the frozen backbone is used."
    bundle = make_bundle("frozen")
    save_bundle(
        tmp_path / "bundle", replace(bundle, evaluation=bundle.evaluation | {"adaptation": {"by_time": reason}})
    )
    assert not (tmp_path / "bundle" / LAYOUT.adapter).exists()
    assert reason in (tmp_path / "bundle" / LAYOUT.card).read_text()
    loaded = load_bundle(tmp_path / "bundle")
    assert (loaded.trained_backbone, loaded.evaluation["adaptation"]) == (None, {"by_time": reason})
    with pytest.raises(BundleError, match="owner/frozen: not pushed"):  # there is no network
        push_bundle(strip_private_paths(loaded, "owner/tiny"), "owner/frozen")
    assert f"owner/frozen: no adapter in this bundle. {reason}" in caplog.text


def test_pull_writes_a_folder(make_bundle: Make, visit: Visit, tiny_bert: Path, tmp_path: Path) -> None:
    save_bundle(tmp_path / "bundle", make_bundle("frozen"))
    visit("push", tmp_path / "bundle", "owner/pulled", backbone=tiny_bert)
    folder = tmp_path / "here"
    printed = visit("shell", "pull", "owner/pulled", "--output", folder, "--json")
    assert json.loads(printed) == {"bundle": str(folder)}
    assert not [path for path in folder.iterdir() if path.is_symlink()]
    assert_same(answers(folder, backbone=str(tiny_bert)), answers(tmp_path / "bundle", backbone=str(tiny_bert)))
    visit("shell", "pull", "owner/pulled", "--output", folder)  # replaces a bundle
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("mine")
    with pytest.raises(BundleError, match="other: exists and is not a bundle"):
        visit("download", "owner/pulled", tmp_path / "other")
    with pytest.raises(BundleError, match="not a repository of the Hub"):
        visit("download", "pulled", tmp_path / "new")
    with pytest.raises(BundleError, match=r"no revision 'v9'\. Use one of main"):
        visit("download", "owner/pulled", tmp_path / "new", revision="v9")
    assert not (tmp_path / "new").exists()


def test_the_adapter_alone_is_peft_s(make_bundle: Make, visit: Visit, tiny_bert: Path, tmp_path: Path) -> None:
    saved = make_bundle("lora")
    save_bundle(tmp_path / "bundle", saved)
    visit("push", tmp_path / "bundle", "owner/adapter", backbone=tiny_bert)
    vectors = torch.tensor(visit("adapter_alone", "owner/adapter", ["new red shoes", TEXT]))
    assert saved.trained_backbone is not None
    torch.testing.assert_close(
        vectors, saved.trained_backbone.encode(saved.trained_backbone.tokenize(["new red shoes", TEXT]))
    )


def test_a_drift_head_goes_along(
    make_bundle: Make,
    add_drift: Callable[[Bundle], Bundle],
    log: Log,
    visit: Visit,
    hub: Any,
    tiny_bert: Path,
    tmp_path: Path,
) -> None:
    saved, folder = add_drift(make_bundle("lora")), tmp_path / "bundle"
    assert saved.drift is not None
    save_bundle(folder, saved)
    counting = Recommender.from_pretrained(folder, backbone=str(tiny_bert))
    counting.live.replay_log(log)
    save_bundle(
        folder, replace(saved, drift=replace(saved.drift, counts=counting.live.state.counts_at(0).export_counts()))
    )
    visit("push", folder, "owner/drift", backbone=tiny_bert)
    there = visit("answers", "owner/drift", TEXT)
    assert_same({"folder": there["folder"]} | answers(folder, backbone=str(tiny_bert)), there)
    visit("push", folder, "owner/drift", backbone=tiny_bert, revision="uncounted", include_counts=False)
    assert tree(hub, "owner/drift") - tree(hub, "owner/drift", "uncounted") == {LAYOUT.world}
    kept = {name: weight.flatten().tolist() for name, weight in saved.drift.head.state_dict().items()}
    assert visit("drift", "owner/drift") == kept


def test_two_revisions_are_two_bundles(
    make_bundle: Make, visit: Visit, hub: Any, tiny_bert: Path, tmp_path: Path
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    save_bundle(first, make_bundle("lora"))
    save_bundle(second, make_bundle("frozen"))
    visit("push", first, "owner/two", backbone=tiny_bert)
    visit("tag", "owner/two", "v1")
    visit("push", second, "owner/two", backbone=tiny_bert, revision="next")
    assert hub.repos["owner/two"].log("next") == [PUSHED, PUSHED, "initial commit"]
    assert LAYOUT.adapter not in tree(hub, "owner/two", "next")  # what the bundle before it had
    for revision, folder in ((None, first), ("v1", first), ("next", second)):
        there = visit("answers", "owner/two", TEXT, revision=revision)
        there.pop("folder")
        assert_same(there, answers(folder, backbone=str(tiny_bert)))
    visit("push", second, "owner/two", backbone=tiny_bert, revision="next")
    assert hub.repos["owner/two"].log("next") == [PUSHED, PUSHED, "initial commit"]  # the same again is nothing new
    with pytest.raises(BundleError, match=r"owner/two: no revision 'v9'. Use one of main, next, v1, or the sha"):
        visit("answers", "owner/two", revision="v9")
    with pytest.raises(BundleError, match="'v1' is a tag"):
        visit("push", second, "owner/two", backbone=tiny_bert, revision="v1")


def test_a_private_repository_is_for_those_who_may_see_it(
    make_bundle: Make, visit: Visit, hub: Any, tmp_path: Path
) -> None:
    save_bundle(tmp_path / "bundle", make_bundle("none"))
    visit("push", tmp_path / "bundle", "owner/secret", private=True)
    assert hub.repos["owner/secret"].private
    for token in (False, "hf_guest"):
        with pytest.raises(BundleError, match=r"owner/secret: .* no repository .* that you can access.*HF_TOKEN"):
            visit("answers", "owner/secret", token=token)
    assert visit("answers", "owner/secret", token="hf_owner")["n_items"] == 40
    with pytest.raises(BundleError, match=r"owner/nowhere: no such folder, and no repository on http://127"):
        visit("answers", "owner/nowhere")
    with pytest.raises(BundleError, match=r"not pushed.*With a token that has access"):
        visit("push", tmp_path / "bundle", "owner/other", token="hf_guest")
    visit("push", tmp_path / "bundle", "owner/open")
    with pytest.raises(BundleError, match="owner/open: exists and is public"):
        visit("push", tmp_path / "bundle", "owner/open", private=True)


@pytest.mark.parametrize(("method", "path"), [("PUT", "/lfs/"), ("POST", "/commit/"), ("POST", "/validate-yaml")])
def test_a_broken_upload_publishes_nothing(
    make_bundle: Make, visit: Visit, hub: Any, tiny_bert: Path, tmp_path: Path, method: str, path: str
) -> None:
    repo = f"owner/broken-{path.strip('/')}"
    save_bundle(tmp_path / "first", make_bundle("none"))
    second = make_bundle("frozen")
    second.model.novelty.fill_(len(path))  # so that there are bytes to upload which the hub does not have
    save_bundle(tmp_path / "second", second)
    visit("push", tmp_path / "first", repo)
    before = dict(hub.repos[repo].branches)
    refuse(hub, method, path)
    for revision in (None, "next"):
        with pytest.raises(BundleError, match=r"not pushed, and nothing is published\. .*No room is left"):
            visit("push", tmp_path / "second", repo, backbone=tiny_bert, revision=revision)
        assert hub.repos[repo].branches == before
    hub.broken = lambda method, path: None
    visit("push", tmp_path / "second", repo, backbone=tiny_bert, revision="next")
    there = visit("answers", repo, TEXT, revision="next")
    assert_same(there["scores"], answers(tmp_path / "second", backbone=str(tiny_bert))["scores"])


def test_a_broken_download_is_told_and_begun_again(make_bundle: Make, visit: Visit, hub: Any, tmp_path: Path) -> None:
    save_bundle(tmp_path / "bundle", make_bundle("none"))
    visit("push", tmp_path / "bundle", "owner/halfway")
    refuse(hub, "GET", "/lfs/")
    with pytest.raises(BundleError, match=r"owner/halfway: cannot be downloaded\. .*No room is left"):
        visit("answers", "owner/halfway")
    hub.broken = lambda method, path: None
    assert_same(visit("answers", "owner/halfway")["scores"], answers(tmp_path / "bundle", None)["scores"])


def test_a_tampered_adapter_is_refused(
    make_bundle: Make, visit: Visit, hub: Any, tiny_bert: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "bundle"
    save_bundle(folder, make_bundle("lora"))
    visit("push", folder, "owner/tampered", backbone=tiny_bert)
    good = hub.repos["owner/tampered"].branches["main"]
    adapter = load_file(folder / LAYOUT.adapter)
    save_file({name: weight * -3 for name, weight in adapter.items()}, tmp_path / "adapter")
    visit("upload", tmp_path / "adapter", LAYOUT.adapter, "owner/tampered")
    with pytest.raises(BundleError, match=r"adapter_model\.safetensors: not the file that was saved"):
        visit("answers", "owner/tampered", TEXT)
    # Even where the record of hashes was altered with it.
    shutil.copy(tmp_path / "adapter", folder / LAYOUT.adapter)
    record = json.loads((folder / LAYOUT.settings).read_text())
    (tmp_path / "record").write_text(json.dumps(record | {"files": hash_files(folder)}))
    visit("upload", tmp_path / "record", LAYOUT.settings, "owner/tampered")
    with pytest.raises(BundleError, match="does not encode the catalog as the bundle's did"):
        visit("answers", "owner/tampered", TEXT)
    visit("answers", "owner/tampered", TEXT, revision=good)


def test_only_a_bundle_s_own_files_are_fetched(make_bundle: Make, visit: Visit, hub: Any, tmp_path: Path) -> None:
    save_bundle(tmp_path / "bundle", make_bundle("none"))
    visit("push", tmp_path / "bundle", "owner/hostile")
    held = hub.repos["owner/hostile"]
    files = held.commits[held.branches["main"]].tree
    strange = ["../../../escaped.json", f"../{LAYOUT.settings}", f"sub/{LAYOUT.heads}", "model.py", "weights.bin"]
    held.commit("main", "more", files | dict.fromkeys(strange, files[LAYOUT.settings]))
    folder = Path(visit("answers", "owner/hostile")["folder"])
    assert {path.name for path in folder.rglob("*")} == {path.name for path in (tmp_path / "bundle").iterdir()}
    assert not [path for path in folder.parents[2].rglob("*") if path.name in ("escaped.json", "sub", "model.py")]
    record = json.loads((tmp_path / "bundle" / LAYOUT.settings).read_text())
    record["files"]["../../secret"] = "0"
    (tmp_path / "record").write_text(json.dumps(record))
    visit("upload", tmp_path / "record", LAYOUT.settings, "owner/hostile")
    with pytest.raises(BundleError, match="secret is missing"):
        visit("answers", "owner/hostile")


def test_no_path_of_this_machine_goes_along(make_bundle: Make, visit: Visit, hub: Any, tmp_path: Path) -> None:
    saved = make_bundle("lora")
    data = DataConfig(source=str(tmp_path / "shoes"), items="C:\\data\\items.parquet", interactions="~/log.parquet")
    config = replace(saved.config, data=data, output=tmp_path / "runs")
    assert saved.base is not None
    unnamed = replace(saved, config=config, base=replace(saved.base, hub_id=str(tmp_path / "base")))
    save_bundle(tmp_path / "bundle", unnamed)
    local = load_bundle(tmp_path / "bundle")
    assert local.config.data == data
    with pytest.raises(BundleError, match=r"a path on this machine.*give its name as base_model_id="):
        strip_private_paths(local)
    backbone = saved.config.backbone.name
    visit("push", tmp_path / "bundle", "owner/paths", backbone=backbone, base_model_id="owner/tiny")
    held = hub.repos["owner/paths"]
    files = held.commits[held.branches["main"]].tree
    for name, file in files.items():
        content = hub.stored[file.sha256 or file.oid]
        assert str(tmp_path).encode() not in content, name
        assert str(Path(backbone).parent).encode() not in content, name
    record = json.loads(hub.stored[files[LAYOUT.settings].oid])
    assert [record["config"]["data"][name] for name in ("source", "items", "interactions")] == [
        "shoes", "items.parquet", "log.parquet"
    ]  # fmt: skip
    assert record["config"]["backbone"]["name"] == record["base"]["hub_id"] == "owner/tiny"
    assert_same(visit("answers", "owner/paths", TEXT)["text"], answers(tmp_path / "bundle", backbone=backbone)["text"])


def test_the_hub_takes_the_card_and_its_example_runs(
    make_bundle: Make, visit: Visit, tiny_bert: Path, tmp_path: Path
) -> None:
    save_bundle(tmp_path / "bundle", make_bundle("lora"))
    visit("validate", tmp_path / "bundle" / LAYOUT.card)
    text = (tmp_path / "bundle" / LAYOUT.card).read_text()
    (tmp_path / "odd.md").write_text(text.replace("relation: adapter", "relation: cousin"))
    with pytest.raises(RuntimeError, match="base_model_relation"):
        visit("validate", tmp_path / "odd.md")
    visit("push", tmp_path / "bundle", "owner/carded", backbone=tiny_bert)
    printed = visit("run_card", "owner/carded").splitlines()
    assert [line.split()[0] for line in printed[:10]] == [str(rank) for rank in range(1, 11)]


def test_the_command_line_pushes_and_asks_by_name(make_bundle: Make, visit: Visit, hub: Any, tmp_path: Path) -> None:
    save_bundle(tmp_path / "bundle", make_bundle("none"))
    told = visit("shell", "push", tmp_path / "bundle", "owner/shell", "--private")
    assert told == f"{hub.url}/owner/shell/commit/{hub.repos['owner/shell'].branches['main']}\n"
    assert hub.repos["owner/shell"].private
    asked = ["i1", "--json"]
    here = visit("shell", "recommend", tmp_path / "bundle", *asked)
    for revision in ([], ["--revision", hub.repos["owner/shell"].branches["main"]]):
        assert visit("shell", "recommend", "owner/shell", *asked, *revision) == here


def test_the_recipe_fetches_what_it_pushed(make_bundle: Make, visit: Visit, hub: Any, tmp_path: Path) -> None:
    save_bundle(tmp_path / "bundle", make_bundle("none"))
    given = ["--bundle", tmp_path / "bundle", "--repo_id", "owner/recipe", "--revision", "v1"]
    told = visit("recipe", ROOT / "recipes" / "push.py", *given)
    sha = hub.repos["owner/recipe"].branches["v1"]
    assert told == (
        f"pushed: {hub.url}/owner/recipe/commit/{sha}\nfetched again: 320 scores, the largest difference 0\n"
    )
    assert hub.repos["owner/recipe"].private


def test_without_a_network_the_remedy_is_named(
    make_bundle: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_bundle(tmp_path / "bundle", make_bundle("none"))
    recommender = Recommender.from_pretrained(tmp_path / "bundle")
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    for offline in (True, False):  # nobody answers at that port
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", offline)
        for ask in (lambda: resolve_bundle("owner/name"), lambda: recommender.push_to_hub("owner/name")):
            with pytest.raises(BundleError, match=r"127\.0\.0\.1.* cannot be reached .*HF_HUB_OFFLINE"):
                ask()


def test_what_is_no_repository_is_said(make_bundle: Make, tmp_path: Path) -> None:
    save_bundle(tmp_path / "bundle", make_bundle("none"))
    recommender = Recommender.from_pretrained(tmp_path / "bundle")
    for name in ("name", "a/b/c", str(tmp_path), "../name"):
        with pytest.raises(BundleError, match="Give OWNER/NAME"):
            recommender.push_to_hub(name)
    with pytest.raises(BundleError, match=r"revision='v1': .* not a repository of the Hub"):
        Recommender.from_pretrained(tmp_path / "bundle", revision="v1")
    for name in (tmp_path / "nowhere", "./nowhere/here", "a/b/c"):
        with pytest.raises(BundleError, match=r": not a bundle \(no llmrec\.json\)"):
            Recommender.from_pretrained(name)
