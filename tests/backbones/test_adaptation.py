"""Each strategy trains what it says, and refuses what it cannot do."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from llmrec.backbones.adaptation import apply_strategy, load_adapter
from llmrec.backbones.text_backbone import TextBackbone
from llmrec.config.backbone import BackboneConfig, LoraConfig, Strategy
from llmrec.errors import BackboneError
from llmrec.hub.adapter import read_target_modules


def adapted(path: Path, strategy: Strategy, **changes: object) -> tuple[TextBackbone, int, int]:
    config = replace(BackboneConfig(name=str(path), hub_id="owner/tiny"), strategy=strategy, **changes)
    backbone = TextBackbone.load(config)
    report = apply_strategy(backbone, config)
    assert report.trainable == sum(p.numel() for p in backbone.parameters() if p.requires_grad)
    return backbone, report.trainable, report.total


@pytest.mark.parametrize("strategy", ["frozen", "last_k", "lora", "full"])
def test_gradients_reach_what_trains_and_nothing_else(
    tiny_bert: Path, tiny_gpt2: Path, tiny_llama: Path, strategy: Strategy
) -> None:
    for path in (tiny_bert, tiny_gpt2, tiny_llama):
        backbone, trainable, total = adapted(path, strategy, last_k=1)
        if strategy == "frozen":
            assert trainable == 0
            continue
        assert (trainable == total) is (strategy == "full")
        ids, mask = backbone.tokenize(["red shoes", "hats"]).get_batch(torch.arange(2).numpy(), backbone.device)
        (backbone(ids, mask) * torch.randn(2, backbone.dim)).sum().backward()
        for parameter in backbone.parameters():
            assert (parameter.grad is not None) is parameter.requires_grad


def test_lora_starts_as_the_identity_and_records_the_hub_id(tiny_bert: Path) -> None:
    frozen, _, _ = adapted(tiny_bert, "frozen")
    tuned, trainable, total = adapted(tiny_bert, "lora", lora=LoraConfig(rank=2))
    assert 0 < trainable < total / 5
    torch.testing.assert_close(tuned.encode(tuned.tokenize(["hats"])), frozen.encode(frozen.tokenize(["hats"])))
    assert tuned.model.peft_config["default"].base_model_name_or_path == "owner/tiny"


@pytest.mark.parametrize("changes", [{"use_dora": True}, {"use_rslora": True}, {"target_modules": ("query", "value")}])
def test_lora_options(tiny_bert: Path, changes: dict[str, object]) -> None:
    assert adapted(tiny_bert, "lora", lora=replace(LoraConfig(rank=2), **changes))[1] > 0


def test_lora_on_the_top_layers_alone(tiny_bert: Path) -> None:
    backbone, _, _ = adapted(tiny_bert, "lora", lora=LoraConfig(rank=2, last_k=1))
    trained = [name for name, weight in backbone.named_parameters() if weight.requires_grad]
    assert trained
    assert all("layer.1." in name for name in trained)
    with pytest.raises(BackboneError, match="last_k=3: this backbone has 2 layers"):
        adapted(tiny_bert, "lora", lora=LoraConfig(last_k=3))
    with pytest.raises(BackboneError, match="selects layers too"):
        adapted(tiny_bert, "lora", lora=LoraConfig(last_k=1, target_modules=".*query"))


NAMES = {
    "tiny_bert": {"query", "key", "value", "dense"},
    "tiny_gpt2": {"c_attn", "c_fc", "c_proj"},
    "tiny_llama": {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"},
}


@pytest.mark.parametrize("name", NAMES)
def test_lora_goes_by_the_models_own_names(name: str, request: pytest.FixtureRequest) -> None:
    path = request.getfixturevalue(name)
    everywhere, _, _ = adapted(path, "lora")
    assert lora_names(everywhere) == NAMES[name]
    one = sorted(NAMES[name])[0]
    narrow, trainable, _ = adapted(path, "lora", lora=LoraConfig(rank=2, target_modules=(one,)))
    assert lora_names(narrow) == {one}
    assert trainable < everywhere.model.num_parameters(only_trainable=True)
    with pytest.raises(BackboneError, match=f"Use some of the linear layers .*{one}"):
        adapted(path, "lora", lora=LoraConfig(target_modules=("nothing_like_it",)))


def test_a_decoders_adapter_comes_back_from_its_folder(tiny_gpt2: Path, tiny_llama: Path, tmp_path: Path) -> None:
    for path in (tiny_gpt2, tiny_llama):
        tuned, _, _ = adapted(path, "lora")
        before = tuned.encode(tuned.tokenize(["hats"]))
        with torch.no_grad():
            for parameter in tuned.model.parameters():
                if parameter.requires_grad:
                    parameter.add_(0.1)
        after = tuned.encode(tuned.tokenize(["hats"]))
        assert not torch.allclose(before, after, atol=1e-3)
        tuned.model.save_pretrained(tmp_path / path.name, save_embedding_layers=False)
        plain, _, _ = adapted(path, "frozen")
        targets = json.loads((tmp_path / path.name / "adapter_config.json").read_text())["target_modules"]
        plain.model = load_adapter(plain.model, tmp_path / path.name, tuned.config.lora.to_adapter(), targets)
        torch.testing.assert_close(plain.encode(plain.tokenize(["hats"])), after)


PEFT = {
    "lora": {"r": 2, "lora_alpha": 4, "target_modules": ["query", "value"]},
    "dora": {"r": 2},
    "rslora": {"r": 2},
    "ia3": {"target_modules": ["key", "dense"], "feedforward_modules": ["dense"]},
    "vera": {"r": 4},
    "loha": {"r": 2, "alpha": 4},
    "lokr": {"r": 2, "last_k": 1},
}


@pytest.mark.parametrize("kind", PEFT)
def test_each_method_of_peft_starts_as_the_identity_and_comes_back_from_a_folder(
    kind: str, tiny_bert: Path, tmp_path: Path
) -> None:
    frozen, _, _ = adapted(tiny_bert, "frozen")
    texts = ["red shoes", "hats"]
    tuned, trainable, total = adapted(tiny_bert, "peft", peft={"type": kind, **PEFT[kind]})
    assert 0 < trainable < total / 4
    before = frozen.encode(frozen.tokenize(texts))
    torch.testing.assert_close(tuned.encode(tuned.tokenize(texts)), before)
    with torch.no_grad():
        for parameter in tuned.model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.rand_like(parameter) / 5)
    after = tuned.encode(tuned.tokenize(texts))
    torch.testing.assert_close(tuned.encode_with_grad(tuned.tokenize(texts)).detach(), after)
    assert not torch.allclose(before, after, atol=1e-3)
    tuned.model.save_pretrained(tmp_path, save_embedding_layers=False)
    adapter = tuned.config.adapter
    assert adapter is not None
    layout = dict.fromkeys(["base_model_name_or_path"], tuned.hub_id)
    path = tmp_path / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | layout))
    frozen.model = load_adapter(frozen.model, tmp_path, adapter, read_target_modules(tmp_path, adapter, tuned.hub_id))
    torch.testing.assert_close(frozen.encode(frozen.tokenize(texts)), after)
    merged = frozen.model.merge_and_unload()  # type: ignore[operator]
    frozen.model = merged
    torch.testing.assert_close(frozen.encode(frozen.tokenize(texts)), after, rtol=1e-4, atol=1e-5)


def lora_names(backbone: TextBackbone) -> set[str]:
    """The layers that LoRA was put on, by the last part of their names."""
    return {name.split(".lora_A")[0].rsplit(".", 1)[-1] for name in backbone.model.state_dict() if ".lora_A" in name}


def test_last_k_counts_layers(tiny_bert: Path, tiny_gpt2: Path, tiny_llama: Path) -> None:
    for path in (tiny_bert, tiny_gpt2, tiny_llama):
        with pytest.raises(BackboneError, match="has 2 layers"):
            adapted(path, "last_k", last_k=3)
        assert adapted(path, "last_k", last_k=2)[1] > adapted(path, "last_k", last_k=1)[1]


def test_last_k_of_a_decoder_is_its_top_layers_and_the_last_norm(tiny_gpt2: Path, tiny_llama: Path) -> None:
    for path, expected in ((tiny_gpt2, {"h.1", "ln_f"}), (tiny_llama, {"layers.1", "norm"})):
        backbone, _, _ = adapted(path, "last_k", last_k=1)
        named = {name for name, parameter in backbone.model.named_parameters() if parameter.requires_grad}
        assert {next(part for part in expected if name.startswith(f"{part}.")) for name in named} == expected


def test_shared_layers_are_refused() -> None:
    from transformers import AlbertConfig, AlbertModel

    from llmrec.backbones.adaptation import get_last_layers

    shared = AlbertModel(
        AlbertConfig(
            vocab_size=20,
            embedding_size=8,
            hidden_size=8,
            num_attention_heads=2,
            intermediate_size=16,
            num_hidden_layers=3,
        )
    )
    with pytest.raises(BackboneError, match=r"\(lora, full\)"):
        get_last_layers(shared, 1)
