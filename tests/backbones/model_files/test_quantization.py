"""A base in few bits: close to the exact vectors, adapters train on it and come back, and nothing else can train."""

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from llmrec.backbones.adaptation import apply_strategy
from llmrec.backbones.text_backbone import TextBackbone
from llmrec.config.backbone import BackboneConfig, LoraConfig, Quantization
from llmrec.config.data import DataConfig
from llmrec.config.jobs.pretrain import PretrainConfig
from llmrec.errors import BackboneError, ConfigError

TEXTS = ["red shoes", "a longer text about hats", "hats"]
with_package = pytest.mark.skipif(
    find_spec("bitsandbytes") is None, reason="needs the package bitsandbytes (extra: quantize)"
)


@with_package
@pytest.mark.parametrize("kind", ["int8", "nf4"])
def test_vectors_are_close_and_the_same_each_time(kind: Quantization, tiny_llama: Path) -> None:
    exact = TextBackbone.load(BackboneConfig(str(tiny_llama), "owner/tiny"))
    first, second = (TextBackbone.load(BackboneConfig(str(tiny_llama), "owner/tiny", quantize=kind)) for _ in range(2))
    vectors = first.encode(first.tokenize(TEXTS))
    cosine = (vectors * exact.encode(exact.tokenize(TEXTS))).sum(1)
    assert 0.9 < float(cosine.min()) < 1 - 1e-7
    torch.testing.assert_close(vectors, second.encode(second.tokenize(TEXTS)), rtol=0, atol=0)
    assert first.base_fingerprint == second.base_fingerprint != exact.base_fingerprint


@with_package
@pytest.mark.parametrize(
    ("kind", "peft"),
    [
        *((kind, peft) for kind in ("int8", "nf4") for peft in ({}, {"type": "ia3"}, {"type": "vera", "r": 4})),
        ("nf4", {"type": "dora", "r": 2}),
    ],
)
def test_adapters_train_on_a_quantized_base(kind: Quantization, peft: dict[str, object], tiny_llama: Path) -> None:
    config = BackboneConfig(
        str(tiny_llama),
        "owner/tiny",
        strategy="peft" if peft else "lora",
        lora=LoraConfig(rank=2),
        peft=peft,  # type: ignore[arg-type]
        quantize=kind,
    )
    backbone = TextBackbone.load(config)
    assert apply_strategy(backbone, config).trainable > 0
    backbone.encode_with_grad(backbone.tokenize(TEXTS))[:, 0].sum().backward()
    trained = [parameter for parameter in backbone.parameters() if parameter.requires_grad]
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in trained)


@pytest.mark.parametrize("strategy", ["full", "last_k"])
def test_strategies_that_train_the_base_are_refused(strategy: str) -> None:
    with pytest.raises(ConfigError, match="weights in few bits do not train"):
        BackboneConfig(strategy=strategy, quantize="nf4")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="no LOHA on such layers"):
        BackboneConfig(strategy="peft", peft={"type": "loha"}, quantize="nf4")
    with pytest.raises(ConfigError, match="no DoRA on such layers"):
        BackboneConfig(strategy="lora", lora=LoraConfig(use_dora=True), quantize="int8")
    with pytest.raises(ConfigError, match="pretraining writes plain weights"):
        PretrainConfig(DataConfig(), backbone=BackboneConfig(strategy="lora", quantize="nf4"))


@pytest.mark.skipif(find_spec("bitsandbytes") is not None, reason="the package bitsandbytes is installed")
def test_a_missing_package_is_named(tiny_llama: Path) -> None:
    with pytest.raises(BackboneError, match="needs the package bitsandbytes"):
        TextBackbone.load(BackboneConfig(str(tiny_llama), "owner/tiny", quantize="int8"))
