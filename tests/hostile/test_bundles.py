"""Bundles from strangers: read as data, within their own folder, and refused in one kind of error."""

from __future__ import annotations

import ast
import dataclasses
import json
import os
import pickle
import shutil
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from llmrec.backbones.text_backbone import TextBackbone
from llmrec.cli.main import main
from llmrec.config.backbone import BackboneConfig
from llmrec.errors import BackboneError, BundleError
from llmrec.hub.bundle import Bundle, load_backbone, load_bundle, save_bundle
from llmrec.hub.layout import LAYOUT, hash_files
from llmrec.recommender import Recommender

Make = Callable[..., Bundle]
Count = Callable[[int], None]
ROOT = Path(__file__).resolve().parents[2]
HISTORY = ["i1", "i2", "i3"]
FUZZ = {"deadline": None, "suppress_health_check": list(HealthCheck), "derandomize": True, "database": None}


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bundles")


@pytest.fixture
def bundle(kept: Path, make_bundle: Make, tmp_path: Path) -> Callable[[str], Path]:
    """bundle(strategy): a folder to do anything to."""

    def copy(strategy: str) -> Path:
        if not (kept / strategy).exists():
            save_bundle(kept / strategy, make_bundle(strategy))
        return Path(shutil.copytree(kept / strategy, tmp_path / strategy))

    return copy


def record_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / LAYOUT.settings).read_text())
    return found


def settle(folder: Path, **changes: object) -> None:
    """As somebody does who wants it to be loaded: hashes fit what is there."""
    (folder / LAYOUT.settings).write_text(json.dumps(record_of(folder) | {"files": hash_files(folder)} | changes))


def adapter(folder: Path, **changes: object) -> None:
    path = folder / LAYOUT.adapter_config
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    settle(folder)


class Trap:
    """Unpickling it leaves a file."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> Any:
        return (os.mkdir, (str(self.place),))


@pytest.mark.parametrize("name", ["pytorch_model.bin", "adapter_model.bin", "model.pt", "heads.pt"])
def test_weights_in_a_pickle_are_not_loaded(
    bundle: Callable[[str], Path], tmp_path: Path, tiny_bert: Path, name: str, count: Count
) -> None:
    count(2)
    folder, sprung = bundle("lora"), tmp_path / "sprung"
    trap = pickle.dumps(Trap(sprung))
    (folder / name).write_bytes(trap)
    load_backbone(folder, load_bundle(folder), backbone=str(tiny_bert))  # beside the right files it is not looked at
    for path in (folder / LAYOUT.adapter, folder / LAYOUT.heads):
        path.unlink()
    with pytest.raises(BundleError, match="is missing"):
        load_bundle(folder)
    backbone = Path(shutil.copytree(tiny_bert, tmp_path / "pickled"))
    (backbone / "model.safetensors").unlink()
    torch.save({"weight": torch.zeros(1)}, backbone / "pytorch_model.bin")
    with pytest.raises(BackboneError, match="its weights are pickled"):
        TextBackbone.load(BackboneConfig(name=str(backbone)))
    assert not sprung.exists()


def test_code_in_a_model_s_folder_is_neither_run_nor_asked_about(
    tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: Count
) -> None:
    def ask(*_: object) -> str:
        raise AssertionError("nobody is asked whether to run code")

    monkeypatch.setattr("builtins.input", ask)
    for place, file in enumerate(("config.json", "tokenizer_config.json")):
        count(place + 1)
        folder, sprung = Path(shutil.copytree(tiny_bert, tmp_path / file)), tmp_path / "sprung"
        (folder / "mine.py").write_text(f"import os\nos.mkdir({str(sprung)!r})\nclass Mine: pass\n")
        found = json.loads((folder / file).read_text())
        names = ["AutoConfig", "AutoModel", "AutoModelForMaskedLM"] if place == 0 else ["AutoTokenizer"]
        mapped = {name: "mine.Mine" if place == 0 else ["mine.Mine", "mine.Mine"] for name in names}
        odd = {"model_type": "mine"} if place == 0 else {"tokenizer_class": "Mine"}
        (folder / file).write_text(json.dumps(found | odd | {"auto_map": mapped, "trust_remote_code": True}))
        with suppress(BackboneError):  # of a tokenizer transformers takes the plain one
            TextBackbone.load(BackboneConfig(name=str(folder)))
        assert not sprung.exists()


ADAPTERS: list[dict[str, object]] = [
    {"auto_mapping": {"base_model_class": "Popen", "parent_library": "subprocess"}},
    {"megatron_config": {"a": 1}, "megatron_core": "antigravity"},
    {"corda_config": {"cache_file": "/tmp/any.pt"}},
    {"eva_config": {"rho": 3.0}},
    {"base_model_name_or_path": "/etc"},
    {"base_model_name_or_path": "stranger/model"},
    {"peft_type": "PROMPT_TUNING"},
    {"peft_type": "lora"},
    {"task_type": "CAUSAL_LM"},
    {"target_modules": "(a+)+$"},
    {"target_modules": ["(a+)+$"]},
    {"target_modules": None},
    {"target_modules": [1]},
    {"modules_to_save": ["embeddings"]},
    {"r": 10**9},
    {"r": "2"},
    {"lora_alpha": 17},
    {"use_dora": True},
    {"init_lora_weights": "pissa"},
    {"layer_replication": [[0, 10**6]]},
    {"trainable_token_indices": [1]},
    {"rank_pattern": {".*": 10**9}},
    {"something_new": {"run": "this"}},
]


@pytest.mark.parametrize("change", ADAPTERS, ids=lambda change: str(change)[:50])
def test_an_adapter_that_asks_for_more_than_lora(
    bundle: Callable[[str], Path], change: dict[str, object], count: Count
) -> None:
    count(1)
    folder = bundle("lora")
    adapter(folder, **change)
    with pytest.raises(BundleError, match=r"adapter_config\.json: .* differs from the adapter in llmrec\.json"):
        load_bundle(folder)


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "a/b", "..", ".", "", "a\x00b", "x" * 300])
def test_files_have_plain_names(bundle: Callable[[str], Path], name: str, count: Count) -> None:
    count(1)
    folder = bundle("none")
    (folder.parent / "outside").write_bytes(b"")
    settle(folder, files=record_of(folder)["files"] | {name: "0" * 64})
    with pytest.raises(BundleError):
        load_bundle(folder)


@pytest.mark.parametrize("name", [LAYOUT.settings, LAYOUT.heads, LAYOUT.items, LAYOUT.catalog, LAYOUT.adapter])
def test_links_do_not_lead_out_of_a_bundle(bundle: Callable[[str], Path], name: str, count: Count) -> None:
    count(2)
    folder = bundle("lora")
    outside = folder.parent / "outside"
    (folder / name).rename(outside)
    (folder / name).symlink_to("../outside")
    with pytest.raises(BundleError, match="a link out of the bundle"):
        load_bundle(folder)
    (folder / name).unlink()
    outside.rename(folder / f"in-{name}")
    (folder / name).symlink_to(f"in-{name}")
    load_bundle(folder)


def downloaded(folder: Path) -> Path:
    """The same as the hub's cache has it: links to blobs, which are named by their hashes."""
    snapshot, blobs = folder.parent / "cache" / "snapshots" / "abc", folder.parent / "cache" / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for place, path in enumerate(sorted(folder.iterdir())):
        shutil.copy(path, blobs / str(place))
        (snapshot / path.name).symlink_to(f"../../blobs/{place}")
    return snapshot


def test_a_download_knows_no_place_of_this_machine(
    bundle: Callable[[str], Path], tiny_bert: Path, log_folder: str, count: Count
) -> None:
    """Neither a base model nor a log: it cannot have been meant."""
    count(2)
    folder = bundle("frozen")
    record = record_of(folder)
    record["config"]["data"]["source"] = log_folder
    record["facts"]["fingerprint"] = "0" * 64
    settle(folder, config=record["config"], base=record["base"] | {"hub_id": str(tiny_bert)}, facts=record["facts"])
    here = Recommender.from_pretrained(folder)
    assert here.training_log.read().facts.n_events > 0
    here.score(HISTORY, [{"title": "hat"}])
    there = Recommender.from_pretrained(downloaded(folder))
    with pytest.raises(BundleError, match="a path on another machine"):
        there.score(HISTORY, [{"title": "hat"}])
    with pytest.raises(Exception, match="since the bundle was downloaded"):
        _ = there.training_log.read()
    assert there.recommend(HISTORY) == here.recommend(HISTORY)


def header(**tensors: object) -> bytes:
    told = json.dumps(tensors).encode()
    return struct.pack("<Q", len(told)) + told


BOMBS = {
    "nothing": b"",
    "a header of 2^63 bytes": struct.pack("<Q", 2**63) + b"{}",
    "a header of 90 MB that is not there": struct.pack("<Q", 90 << 20) + b"{}",
    "no JSON": struct.pack("<Q", 4) + b"null",
    "nests deeply": struct.pack("<Q", 90_000) + b"[" * 90_000,
    "more than there is": header(a={"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}),
    "a shape that overflows": header(a={"dtype": "F32", "shape": [2**62, 2**62], "data_offsets": [0, 0]}),
    "a negative shape": header(a={"dtype": "F32", "shape": [-1], "data_offsets": [0, 0]}),
    "offsets backwards": header(a={"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}) + b"0000",
    "an unknown type": header(a={"dtype": "PICKLE", "shape": [1], "data_offsets": [0, 4]}) + b"0000",
    "no tensors": header(),
}


@pytest.mark.parametrize("name", [LAYOUT.heads, LAYOUT.items])
def test_safetensors_that_promise_too_much(bundle: Callable[[str], Path], name: str, count: Count) -> None:
    count(len(BOMBS))
    folder = bundle("none")
    for content in BOMBS.values():
        (folder / name).write_bytes(content)
        settle(folder)
        with pytest.raises(BundleError):
            load_bundle(folder)


def test_settings_that_ask_for_all_memory(bundle: Callable[[str], Path], count: Count) -> None:
    folder = bundle("none")
    model = record_of(folder)["config"]["model"]
    greedy = [{"dim": 10**9}, {"dim": 65_536}, {"max_history": 2**20}, {"n_layers": 60}, {"n_layers": 10**9},
              {"n_heads": 0}, {"feedforward_multiplier": 999}, {"dim": -8}, {"temperature": -1.0},
              {"dropout": 7.0}]  # fmt: skip
    count(len(greedy))
    config = record_of(folder)["config"]
    for change in greedy:
        settle(folder, config=config | {"model": model | change})
        with pytest.raises(BundleError):
            load_bundle(folder)


def test_catalogs_that_are_none(bundle: Callable[[str], Path], count: Count) -> None:
    folder = bundle("none")
    sound, kept_settings = pq.read_table(folder / LAYOUT.catalog), record_of(folder)["catalog"]
    ids = sound["item_id"]
    tables = [
        sound.slice(1),
        pa.concat_tables([sound] * 3),
        sound.drop_columns(["item_id"]),
        sound.drop_columns(["title"]),
        sound.set_column(0, "item_id", pa.array(["i1"] * len(ids), pa.large_string())),
        sound.set_column(0, "item_id", pa.array([None, *ids.to_pylist()[1:]], pa.large_string())),
        sound.set_column(0, "item_id", pa.array(range(len(ids)))),
        sound.append_column("item_id", ids),
        pa.table({"rows": pa.nulls(10**8)}),  # some hundred bytes on disk
    ]
    odd = [{"template": "{plot}"}, {"template": "{title"}, {"template": 7}, {"id_column": "title2"},
           {"id_column": None}, {"release_column": "title"}, {"release_column": "nowhere"}]  # fmt: skip
    count(len(tables) + len(odd))
    for table in tables:
        pq.write_table(table, folder / LAYOUT.catalog)
        settle(folder)
        with pytest.raises(BundleError):
            load_bundle(folder)
    pq.write_table(sound, folder / LAYOUT.catalog)
    for change in odd:
        settle(folder, catalog=kept_settings | change)
        with pytest.raises(BundleError):
            load_bundle(folder)


RECORDS: dict[str, object] = {
    "facts": [None, {}, [], {"source": 1, "fingerprint": "x"}],
    "evaluation": [None, {}, {"main": 3}],
    "files": [None, [], {}, {"heads.safetensors": 5}],
    "probe": [None, {}, {"histories": [[10**9]], "items": [[0]], "scores": [[0.0]]},
              {"histories": [[[]]], "items": 1, "scores": "a"},
              {"histories": [[-1]], "items": [[0]], "scores": [[float("nan")]]}],
    "base": [1, {"hub_id": 1}, {"unknown": 1}],
    "config": [None, {}, {"data": 1}, {"model": {"dim": "x"}}],
    "catalog": [None, {}, "item_id"],
    "versions": [None, 1, []],
    "removed": [7, ["nowhere"], [[]], {"i1": 1}, None],
    "drift": [1, {"a": 1}],
}  # fmt: skip


@pytest.mark.parametrize("part", RECORDS)
def test_records_of_other_shapes(bundle: Callable[[str], Path], part: str, count: Count) -> None:
    """A drift head that the configuration has not is left alone, as it always was."""
    folder, odd = bundle("frozen"), RECORDS[part]
    assert isinstance(odd, list)
    count(len(odd))
    for value in odd:
        settle(folder, **{part: value})
        try:
            load_bundle(folder)
        except BundleError:
            continue
        assert part in ("drift", "removed"), value


@pytest.mark.parametrize(
    "content", [b"[" * 100_000, b'{"a":' * 50_000, b'{"format": 3, "n": ' + b"9" * 9999 + b"}", b"\x00" * 99]
)
def test_settings_that_are_no_json(bundle: Callable[[str], Path], content: bytes, count: Count) -> None:
    count(1)
    folder = bundle("none")
    (folder / LAYOUT.settings).write_bytes(content)
    with pytest.raises(BundleError):
        load_bundle(folder)


def damaged(whole: bytes) -> st.SearchStrategy[bytes]:
    """Some bytes changed, put in or taken out, or the end cut off."""

    def change(changes: list[tuple[int, int, bytes]]) -> bytes:
        content = whole
        for place, taken, put in changes:
            content = content[:place] + put + content[place + taken :]
        return content

    place = st.integers(0, len(whole) - 1)
    piece = st.binary(max_size=3) | st.sampled_from([b"0", b"9", b"-", b"null", b"[]", b"{", b'"', b"e9"])
    return st.lists(st.tuples(place, st.integers(0, 3), piece), min_size=1, max_size=3).map(change) | place.map(
        lambda end: whole[:end]
    )


@pytest.mark.parametrize("name", [LAYOUT.settings, LAYOUT.heads, LAYOUT.items, LAYOUT.catalog])
def test_damage_anywhere(bundle: Callable[[str], Path], name: str, count: Count) -> None:
    """With hashes that fit what is there: it is refused, or answers what it did."""
    folder, tried = bundle("none"), []
    expected = Recommender.from_pretrained(folder).recommend(HISTORY, k=5)
    whole, record = (folder / name).read_bytes(), record_of(folder)

    @settings(max_examples=15, **FUZZ)
    @given(damaged(whole))
    def check(content: bytes) -> None:
        tried.append(name)
        (folder / name).write_bytes(content)
        if name != LAYOUT.settings:
            there = {file: digest for file, digest in hash_files(folder).items() if file in record["files"]}
            (folder / LAYOUT.settings).write_text(json.dumps(record | {"files": there}))
        try:
            found = Recommender.from_pretrained(folder).recommend(HISTORY, k=5)
        except BundleError:
            return
        if name in (LAYOUT.heads, LAYOUT.items):
            assert [item.score for item in found] == pytest.approx([item.score for item in expected], rel=1e-3)
        assert len(found) == 5

    check()
    count(len(tried))


def test_a_drift_head_of_other_items(
    make_bundle: Make, add_drift: Callable[..., Bundle], tmp_path: Path, count: Count
) -> None:
    """Neighbors beyond the catalog would have products read outside of memory."""
    given = add_drift(make_bundle("frozen"))
    assert given.drift is not None
    near = given.drift.build_serving_stream(given.config.drift, "strict", len(given.catalog)).text
    folder = tmp_path / "drifting"
    save_bundle(folder, dataclasses.replace(given, drift=dataclasses.replace(given.drift, text_neighbors=near)))
    sound = load_file(folder / LAYOUT.drift)
    column = sound["near.column"]
    odd = [{"near.column": column + 10**6}, {"near.column": -column - 1}, {"near.column": column[:, :2].contiguous()},
           {"near.column": column.repeat(2, 1), "near.chance": sound["near.chance"].repeat(2, 1)[:, :3].contiguous()},
           {"near.column": column.repeat(9, 1), "near.chance": sound["near.chance"].repeat(9, 1)},
           {"centre": sound["centre"][:3].clone()}]  # fmt: skip
    count(len(odd))
    load_bundle(folder)
    for change in odd:
        save_file(sound | change, folder / LAYOUT.drift)
        settle(folder)
        with pytest.raises(BundleError):
            load_bundle(folder)


def test_the_command_line_ends_in_one_message(
    bundle: Callable[[str], Path], capsys: pytest.CaptureFixture[str], count: Count
) -> None:
    count(1)
    folder = bundle("none")
    (folder / LAYOUT.heads).write_bytes(b"half")
    settle(folder)
    with pytest.raises(SystemExit) as stopped:
        main(["recommend", str(folder), "i1"])
    assert stopped.value.code == 2
    assert "not readable as a bundle (SafetensorError" in capsys.readouterr().err


UNSAFE = {"pickle", "cPickle", "dill", "joblib", "cloudpickle", "shelve", "marshal"}


def unsafe(node: ast.AST) -> str | None:
    """Where code can be read from a file as data: the names of what does that, or of what switches it on."""
    match node:
        case ast.Import(names=names) if found := UNSAFE & {alias.name.split(".")[0] for alias in names}:
            return ", ".join(found)
        case ast.ImportFrom(module=str(module)) if module.split(".")[0] in UNSAFE:
            return module
        case ast.Call(func=ast.Attribute(attr="load", value=ast.Name(id="torch")), keywords=keywords):
            restricted = {keyword.arg: getattr(keyword.value, "value", None) for keyword in keywords}
            return None if restricted.get("weights_only") is True else "load"  # tensors alone: nothing can run
        case ast.Attribute(attr="load" | "unsafe_load" | "full_load", value=ast.Name(id="pickle" | "joblib")):
            return "load"
        case ast.Attribute(attr="unsafe_load" | "UnsafeLoader" | "FullLoader" | "read_pickle" as name):
            return name
        case ast.keyword(arg="allow_pickle" | "trust_remote_code" as name, value=value):
            return None if isinstance(value, ast.Constant) and value.value is False else name
        case ast.Constant(value=str(text)) if text in ("torch.load", "__reduce__"):
            return text
    return None


def from_pretrained_calls(tree: ast.AST) -> list[ast.Call]:
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)]
    return [call for call in calls if isinstance(call.func, ast.Attribute) and call.func.attr == "from_pretrained"]


def test_nothing_unpickles_and_no_call_leaves_code_to_be_trusted() -> None:
    files = [path for name in ("llmrec", "recipes", "scripts") for path in sorted((ROOT / name).rglob("*.py"))]
    trees = {path.relative_to(ROOT): ast.parse(path.read_text("utf-8")) for path in files}
    found = [
        f"{path}:{getattr(node, 'lineno', 0)}: {what}"
        for path, tree in trees.items()
        for node in ast.walk(tree)
        if (what := unsafe(node))
    ]
    assert not found
    for path, tree in trees.items():
        for call in from_pretrained_calls(tree):
            owner = ast.unparse(call.func)
            if owner.split(".")[0] in (
                "Recommender",
                "PeftModel",
                "cls",
            ):  # our own, and one that is given its settings
                continue
            told = {word.arg or ast.unparse(word.value) for word in call.keywords}
            assert told & {"trust_remote_code", "UNTRUSTED", "WEIGHTS"}, f"{path}:{call.lineno}: {owner}"
