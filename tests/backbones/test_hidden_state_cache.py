"""Layers that do not train are run once: what is read above them, and its gradients, are the same to the bit."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from llmrec.backbones import hidden_state_cache
from llmrec.backbones import text_backbone as backbone_module
from llmrec.backbones.adaptation import apply_strategy
from llmrec.backbones.hidden_state_cache import HiddenStateCache, HiddenStateFile, count_frozen_layers
from llmrec.backbones.text_backbone import TextBackbone
from llmrec.backbones.token_store import TokenStore
from llmrec.config.backbone import BackboneConfig, LoraConfig
from llmrec.errors import BackboneError

TEXTS = ["red garden shoes", "hair oil", "a night of drama, comedy and horror", "love"]
LAST = BackboneConfig(strategy="last_k", last_k=1)
TOP = BackboneConfig(strategy="lora", lora=LoraConfig(rank=2, last_k=1))


def tuned(path: Path, config: BackboneConfig) -> tuple[TextBackbone, TokenStore]:
    torch.manual_seed(0)
    config = replace(config, name=str(path), hub_id="owner/tiny")
    backbone = TextBackbone.load(config)
    apply_strategy(backbone, config)
    for name, weight in backbone.named_parameters():
        if "lora_B" in name:  # 0 to start with, and the gradient of its partner with it
            torch.nn.init.normal_(weight)
    return backbone, backbone.tokenize(TEXTS)


def read(
    backbone: TextBackbone, tokens: TokenStore, lower: HiddenStateCache | None
) -> tuple[Tensor, dict[str, Tensor]]:
    vectors = backbone.encode_with_grad(tokens, lower)
    backbone.zero_grad()
    (vectors * torch.arange(vectors.numel()).view_as(vectors)).sum().backward()
    return vectors.detach(), {name: w.grad for name, w in backbone.named_parameters() if w.grad is not None}


@pytest.mark.parametrize("config", [LAST, TOP], ids=["last_k", "lora"])
@pytest.mark.parametrize("name", ["tiny_bert", "tiny_gpt2", "tiny_llama"])
def test_vectors_and_gradients_are_equal_to_the_bit(
    name: str, config: BackboneConfig, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    backbone, tokens = tuned(request.getfixturevalue(name), config)
    lower = HiddenStateCache.load_or_compute(backbone, tokens, cache_dir=tmp_path)
    assert lower is not None
    assert lower.n_layers == 1
    plain, ours = read(backbone, tokens, None), read(backbone, tokens, lower)
    assert torch.equal(plain[0], ours[0])
    assert plain[1].keys() == ours[1].keys()
    assert all(torch.equal(gradient, ours[1][name]) for name, gradient in plain[1].items())


def test_where_states_are_kept_is_known_before_they_are_made(tiny_bert: Path, tmp_path: Path) -> None:
    backbone, tokens = tuned(tiny_bert, LAST)
    file = HiddenStateFile.from_backbone(backbone, tokens, "auto", cache_dir=tmp_path)
    assert file is not None
    assert not file.is_whole
    lower = HiddenStateCache.load_or_compute(backbone, tokens, cache_dir=tmp_path)
    assert lower is not None
    assert file.is_whole
    assert (file.n_layers, file.size) == (lower.n_layers, lower.states.nbytes)
    assert HiddenStateFile.from_backbone(backbone, tokens, "none", cache_dir=tmp_path) is None


def test_a_part_of_the_catalog_in_any_order(tiny_bert: Path, tmp_path: Path) -> None:
    backbone, tokens = tuned(tiny_bert, LAST)
    lower = HiddenStateCache.load_or_compute(backbone, tokens, cache_dir=tmp_path)
    assert lower is not None
    rows = torch.tensor([3, 0, 2]).numpy()
    torch.testing.assert_close(
        backbone.encode_with_grad(tokens.take(rows), lower.take(rows)),
        backbone.encode_with_grad(tokens)[rows],
        atol=1e-6,
        rtol=0,
    )


def test_what_lies_on_disk_is_taken_and_what_is_not_whole_is_not(
    tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone, tokens = tuned(tiny_bert, LAST)
    HiddenStateCache.load_or_compute(backbone, tokens, cache_dir=tmp_path)
    (file,) = (tmp_path / "layers").iterdir()
    made = []
    write = hidden_state_cache._write
    monkeypatch.setattr(
        hidden_state_cache, "_write", lambda *given, **options: made.append(given[0]) or write(*given, **options)
    )
    with torch.no_grad():  # what trains is not part of what is kept
        next(weight for weight in backbone.parameters() if weight.requires_grad).add_(1.0)
    assert HiddenStateCache.load_or_compute(backbone, tokens, cache_dir=tmp_path) is not None
    assert made == []
    file.write_bytes(file.read_bytes()[:100])
    assert HiddenStateCache.load_or_compute(backbone, tokens, cache_dir=tmp_path) is not None
    other = backbone.tokenize([*TEXTS[1:], TEXTS[0]])
    assert HiddenStateCache.load_or_compute(backbone, other, cache_dir=tmp_path) is not None
    with torch.no_grad():
        next(backbone.parameters()).add_(1.0)
    assert HiddenStateCache.load_or_compute(backbone, tokens, cache_dir=tmp_path) is not None
    assert made[0] == file
    assert len({*made}) == 3


def test_half_the_room_for_bf16(tiny_gpt2: Path, tmp_path: Path) -> None:
    backbone, tokens = tuned(tiny_gpt2, LAST)
    full = HiddenStateCache.load_or_compute(backbone, tokens, kept="fp32", cache_dir=tmp_path)
    half = HiddenStateCache.load_or_compute(backbone, tokens, kept="bf16", cache_dir=tmp_path)
    assert full is not None
    assert half is not None
    assert half.mib == full.mib / 2
    torch.testing.assert_close(
        backbone.encode_with_grad(tokens, half), backbone.encode_with_grad(tokens, full), atol=1e-2, rtol=0
    )


@pytest.mark.parametrize("config", [BackboneConfig(strategy="full"), BackboneConfig(strategy="lora"), BackboneConfig()])
def test_nothing_is_kept_where_the_first_layer_trains_or_none_does(
    tiny_bert: Path, tmp_path: Path, config: BackboneConfig
) -> None:
    backbone, tokens = tuned(tiny_bert, config)
    assert HiddenStateCache.load_or_compute(backbone, tokens, cache_dir=tmp_path) is None


def test_trained_embeddings_leave_nothing_below_them(tiny_bert: Path) -> None:
    backbone, _ = tuned(tiny_bert, LAST)
    backbone.model.embeddings.requires_grad_(True)
    assert count_frozen_layers(backbone.model) == 0


def test_auto_keeps_what_is_small(tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone, tokens = tuned(tiny_bert, LAST)
    monkeypatch.setattr(hidden_state_cache, "MAX_CACHE_BYTES", 100)
    assert HiddenStateCache.load_or_compute(backbone, tokens, cache_dir=tmp_path) is None
    assert HiddenStateCache.load_or_compute(backbone, tokens, kept="fp32", cache_dir=tmp_path) is not None
    assert HiddenStateCache.load_or_compute(backbone, tokens, kept="none", cache_dir=tmp_path) is None


def test_a_full_disk_is_told(tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    backbone, tokens = tuned(tiny_bert, LAST)
    monkeypatch.setattr(hidden_state_cache.os, "posix_fallocate", full)
    with pytest.raises(BackboneError, match="No space left on device"):
        HiddenStateCache.load_or_compute(backbone, tokens, cache_dir=tmp_path)
    assert list((tmp_path / "layers").iterdir()) == []


@pytest.mark.parametrize("config", [LAST, TOP], ids=["last_k", "lora"])
@pytest.mark.parametrize("kept", [False, True], ids=["whole", "lower layers kept"])
def test_reading_again_on_the_way_back_keeps_less_and_changes_nothing(
    kept: bool, config: BackboneConfig, tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backbone_module, "TOKENS_AT_ONCE", 8)  # several batches
    found, held = [], []
    for again in (False, True):
        backbone, tokens = tuned(tiny_bert, replace(config, gradient_checkpointing=again))
        lower = HiddenStateCache.load_or_compute(backbone, tokens, cache_dir=tmp_path) if kept else None
        sizes: list[int] = []

        def keep(tensor: Tensor, sizes: list[int] = sizes) -> Tensor:
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            backbone.encode_with_grad(tokens, lower)
        held.append(sum(sizes))
        found.append(read(backbone, tokens, lower))
    (vectors, gradients), (again_vectors, again_gradients) = found
    assert torch.equal(vectors, again_vectors)
    assert all(torch.equal(gradient, again_gradients[name]) for name, gradient in gradients.items())
    assert held[1] < held[0] / 4
