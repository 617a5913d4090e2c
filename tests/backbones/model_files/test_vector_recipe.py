"""What a checkpoint says about its vectors is obeyed, in the forms of all releases, or refused by the module's name."""

import json
import logging
import shutil
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants

from llmrec.backbones.text_backbone import TextBackbone
from llmrec.config.backbone import BackboneConfig
from llmrec.errors import BackboneError
from tests.backbones.sentence_folders import (
    FLAGS,
    RELEASES,
    compute_states,
    dense,
    pool_by_hand,
    write_folder,
    write_json,
)

TEXTS = ["robot love drama", "a night in the garden of war", "Space"]


def read(folder: Path | str, **changes: object) -> torch.Tensor:
    backbone = TextBackbone.load(BackboneConfig(name=str(folder), **changes))
    return backbone.encode(backbone.tokenize(TEXTS))


def expect(
    base: Path, modes: list[str], finish: object = lambda pooled: pooled, texts: list[str] = TEXTS
) -> torch.Tensor:
    states = [compute_states(base, text) for text in texts]
    pooled = torch.stack([torch.cat([pool_by_hand(one, mode) for mode in modes]) for one in states])
    return torch.nn.functional.normalize(finish(pooled), dim=-1)


def assert_same(ours: torch.Tensor, right: torch.Tensor) -> None:
    assert ours.shape == right.shape
    assert float((ours * right).sum(1).min()) > 1 - 1e-5


@pytest.mark.parametrize("mode", sorted(FLAGS))
@pytest.mark.parametrize("release", sorted(RELEASES))
@pytest.mark.parametrize("model", ["tiny_bert", "tiny_llama"])
def test_pooling_of_every_release(
    model: str, release: str, mode: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    base = request.getfixturevalue(model)
    assert_same(read(write_folder(base, tmp_path / "out", release, [mode])), expect(base, [mode]))


@pytest.mark.parametrize("release", sorted(RELEASES))
def test_several_poolings_and_further_modules(tiny_bert: Path, release: str, tmp_path: Path) -> None:
    norm = {"norm.weight": torch.linspace(0.5, 2, 16), "norm.bias": torch.linspace(-1, 1, 16)}
    first, last = dense(64, 16), dense(16, 8, "torch.nn.modules.linear.Identity", bias=False)
    layers = [
        first,
        ("Normalize", {}, {}),
        ("LayerNorm", {"dimension": 16}, norm),
        ("Dropout", {"dropout": 0.5}, {}),
        last,
    ]
    folder = write_folder(tiny_bert, tmp_path / "out", release, ["cls", "mean"], layers)

    def finish(pooled: torch.Tensor) -> torch.Tensor:
        made = torch.nn.functional.normalize(torch.tanh(pooled @ first[2]["linear.weight"].T + first[2]["linear.bias"]))
        made = torch.nn.functional.layer_norm(made, (16,), norm["norm.weight"], norm["norm.bias"])
        return made @ last[2]["linear.weight"].T

    assert_same(read(folder), expect(tiny_bert, ["cls", "mean"], finish))


def test_a_residual_dense_and_fewer_dimensions(tiny_bert: Path, tmp_path: Path) -> None:
    kind, settings, weights = dense(32, 16)
    weights["residual.weight"] = torch.eye(32)[:16].contiguous()
    layers = [(kind, settings | {"use_residual": True}, weights)]
    folder = write_folder(tiny_bert, tmp_path / "out", "6", ["mean"], layers, truncate_dim=6)

    def finish(pooled: torch.Tensor) -> torch.Tensor:
        return (torch.tanh(pooled @ weights["linear.weight"].T + weights["linear.bias"]) + pooled[:, :16])[:, :6]

    backbone = TextBackbone.load(BackboneConfig(name=str(folder)))
    assert backbone.dim == 6
    assert_same(read(folder), expect(tiny_bert, ["mean"], finish))


def test_prompts_by_default_by_name_and_as_given(tiny_bert: Path, tmp_path: Path) -> None:
    prompts = {"query": "the war: ", "passage": "a garden: "}
    folder = write_folder(tiny_bert, tmp_path / "out", "3", ["mean"], prompts=prompts, default_prompt_name="query")
    for wanted, before in ((None, "the war: "), ("passage", "a garden: "), ("river {text}", "river "), ("{text}", "")):
        right = expect(tiny_bert, ["mean"], texts=[before + text for text in TEXTS])
        assert_same(read(folder, prompt=wanted), right)
    with pytest.raises(BackboneError, match=r"backbone.prompt='document'.*query, passage"):
        read(folder, prompt="document")


def test_length_and_case_of_the_checkpoint(tiny_llama: Path, tmp_path: Path) -> None:
    stated = {"max_seq_length": 3, "do_lower_case": True}
    folder = write_folder(tiny_llama, tmp_path / "out", "2", ["mean"], transformer=stated)
    backbone = TextBackbone.load(BackboneConfig(name=str(folder)))
    tokens, plain = backbone.tokenize(["Night", "A GARDEN"]), backbone.tokenizer(["night", "a garden"])["input_ids"]
    assert [tokens.flat[a:b].tolist() for a, b in zip(tokens.offset, tokens.offset[1:], strict=False)] == [
        ids[:3] for ids in plain
    ]


def test_a_decoder_that_says_nothing_ends_its_texts_and_others_do_not(tiny_llama: Path, tmp_path: Path) -> None:
    stated = write_folder(tiny_llama, tmp_path / "out", "6", ["lasttoken"])
    eos = 1
    for path, ends in ((tiny_llama, True), (stated, False)):
        backbone = TextBackbone.load(BackboneConfig(name=str(path)))
        assert (backbone.tokenize(["a garden"]).flat[-1] == eos) == ends


def test_a_hub_id_is_read_as_the_folder_of_its_files(
    tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = write_folder(tiny_bert, tmp_path / "out", "2", ["cls"], [dense(32, 8)])
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    for name, source in (("someone--stated", folder), ("someone--silent", tiny_bert)):
        cached = tmp_path / "hub" / f"models--{name}"
        (cached / "refs").mkdir(parents=True)
        (cached / "refs" / "main").write_text("b" * 40)
        shutil.copytree(source, cached / "snapshots" / ("b" * 40))
    with caplog.at_level(logging.WARNING):
        backbone = TextBackbone.load(BackboneConfig(name="someone/stated"))
        assert not caplog.messages
        assert TextBackbone.load(BackboneConfig(name="someone/silent")).pooling == "mean"
    assert "no modules.json" in caplog.messages[0]
    assert (backbone.pooling, backbone.dim, backbone.hub_id) == ("cls", 8, "someone/stated")
    assert_same(backbone.encode(backbone.tokenize(TEXTS)), read(folder))


MODULES = [("Transformer", ""), ("Pooling", "1_Pooling"), ("Dense", "2_Dense")]


def modules(*kinds: tuple[str, str]) -> list[dict[str, object]]:
    home = "sentence_transformers.models."
    return [
        {"idx": k, "path": path, "type": kind if "." in kind else home + kind} for k, (kind, path) in enumerate(kinds)
    ]


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("modules.json", modules(*MODULES, ("CNN", "3_CNN")), r"module 3 \(3_CNN\) is CNN"),
        ("modules.json", modules(("StaticEmbedding", ""), *MODULES[1:]), "is StaticEmbedding"),
        ("modules.json", modules(*MODULES[:2], ("custom.Dense", "2_Dense")), "is custom.Dense"),
        ("modules.json", modules(MODULES[0]), "no module Pooling"),
        ("modules.json", modules(MODULES[0], ("WeightedLayerPooling", "1"), MODULES[1]), "is WeightedLayerPooling"),
        ("modules.json", {"idx": 0}, "no list of modules"),
        ("1_Pooling/config.json", {"pooling_mode": "attention"}, r"module Pooling \(1_Pooling\).*'attention'"),
        ("1_Pooling/config.json", {"pooling_mode_attention": True}, "pooling_mode_attention is not understood"),
        ("sentence_bert_config.json", {"transformer_task": "fill-mask"}, "transformer_task to 'fill-mask'"),
        ("sentence_bert_config.json", {"query_expansion": {"length": 32}}, "query_expansion"),
        ("sentence_bert_config.json", {"config_args": {"is_decoder": True}}, "is_decoder to True"),
        (
            "sentence_bert_config.json",
            {"modality_config": {"text": {"method": "forward", "method_output_name": "pooler_output"}}},
            "pooler_output",
        ),
        ("config_sentence_transformers.json", {"prompts": {"a": "b"}, "default_prompt_name": "c"}, "'c' is none of"),
        (
            "2_Dense/config.json",
            {"in_features": 32, "out_features": 8, "activation_function": "os.system"},
            "os.system",
        ),
        (
            "2_Dense/config.json",
            {"in_features": 32, "out_features": 8, "module_input_name": "token_embeddings"},
            "token_em",
        ),
        ("2_Dense/config.json", {"in_features": 32, "out_features": 8, "dropout": 0.1}, "'dropout' is not understood"),
        ("2_Dense/config.json", {"in_features": 16, "out_features": 8}, r"module Dense \(2_Dense\): cannot be loaded"),
    ],
)
def test_what_is_not_understood_is_named(
    tiny_bert: Path, tmp_path: Path, file: str, content: object, message: str
) -> None:
    folder = write_folder(tiny_bert, tmp_path / "out", "6", ["mean"], [dense(32, 8)])
    write_json(folder / file, content)
    with pytest.raises(BackboneError, match=message):
        TextBackbone.load(BackboneConfig(name=str(folder)))


def test_a_prompt_that_is_not_pooled_is_refused(tiny_bert: Path, tmp_path: Path) -> None:
    folder = write_folder(tiny_bert, tmp_path / "out", "6", ["mean"], prompts={"q": "war "}, default_prompt_name="q")
    path = folder / "1_Pooling" / "config.json"
    write_json(path, json.loads(path.read_text()) | {"include_prompt": False})
    with pytest.raises(BackboneError, match="include_prompt is false"):
        TextBackbone.load(BackboneConfig(name=str(folder)))


def test_vectors_are_those_of_sentence_transformers_where_it_is_installed(tiny_bert: Path, tmp_path: Path) -> None:
    library = pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed")
    folder = write_folder(
        tiny_bert, tmp_path / "out", "6", ["weightedmean"], [dense(32, 8), ("Normalize", {}, {})],
        prompts={"query": "the war: "}, default_prompt_name="query",
    )  # fmt: skip
    right = torch.tensor(library.SentenceTransformer(str(folder), device="cpu").encode(TEXTS, show_progress_bar=False))
    assert_same(read(folder), torch.nn.functional.normalize(right, dim=-1))
