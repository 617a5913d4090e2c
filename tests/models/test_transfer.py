"""Each strategy trains what it says, and refuses what it cannot do."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from llmrec.config import BackboneConfig, LoraConfig, Strategy
from llmrec.errors import BackboneError
from llmrec.models.backbone import Backbone
from llmrec.models.transfer import apply_strategy


def adapted(path: Path, strategy: Strategy, **changes: object) -> tuple[Backbone, int, int]:
    config = replace(BackboneConfig(name=str(path), hub_id="owner/tiny", strategy=strategy), **changes)
    backbone = Backbone.load(config)
    report = apply_strategy(backbone, config)
    assert report.trainable == sum(p.numel() for p in backbone.parameters() if p.requires_grad)
    return backbone, report.trainable, report.total


@pytest.mark.parametrize("strategy", ["frozen", "last_k", "lora", "full"])
def test_gradients_reach_what_trains_and_nothing_else(tiny_bert: Path, tiny_gpt2: Path, strategy: Strategy) -> None:
    for path in (tiny_bert, tiny_gpt2):
        backbone, trainable, total = adapted(path, strategy, last_k=1)
        if strategy == "frozen":
            assert trainable == 0
            continue
        assert (trainable == total) is (strategy == "full")
        ids, mask = backbone.tokens(["red shoes", "hats"]).batch(torch.arange(2).numpy(), backbone.device)
        (backbone(ids, mask) * torch.randn(2, backbone.dim)).sum().backward()
        for parameter in backbone.parameters():
            assert (parameter.grad is not None) is parameter.requires_grad


def test_lora_starts_as_the_identity_and_records_the_hub_id(tiny_bert: Path) -> None:
    frozen, _, _ = adapted(tiny_bert, "frozen")
    tuned, trainable, total = adapted(tiny_bert, "lora", lora=LoraConfig(rank=2))
    assert 0 < trainable < total / 5
    torch.testing.assert_close(tuned.encode(tuned.tokens(["hats"])), frozen.encode(frozen.tokens(["hats"])))
    assert tuned.model.peft_config["default"].base_model_name_or_path == "owner/tiny"


@pytest.mark.parametrize("changes", [{"dora": True}, {"rslora": True}, {"targets": ("query", "value")}])
def test_lora_options(tiny_bert: Path, changes: dict[str, object]) -> None:
    assert adapted(tiny_bert, "lora", lora=replace(LoraConfig(rank=2), **changes))[1] > 0


def test_unknown_targets_are_answered_with_the_known_ones(tiny_bert: Path) -> None:
    with pytest.raises(BackboneError, match=r"Linear layers here: .*query"):
        adapted(tiny_bert, "lora", lora=LoraConfig(targets=("q_proj",)))


def test_last_k_counts_layers(tiny_bert: Path) -> None:
    with pytest.raises(BackboneError, match="has 2 layers"):
        adapted(tiny_bert, "last_k", last_k=3)
    assert adapted(tiny_bert, "last_k", last_k=2)[1] > adapted(tiny_bert, "last_k", last_k=1)[1]


def test_shared_layers_are_refused() -> None:
    from transformers import AlbertConfig, AlbertModel

    from llmrec.models.transfer import last_layers

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
        last_layers(shared, 1)
