"""A pretrained folder reads as the model in memory did, and is written whole or not at all."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from llmrec.backbones.adaptation import apply_strategy, load_adapter
from llmrec.backbones.text_backbone import TextBackbone
from llmrec.config.backbone import BackboneConfig, LoraConfig, Strategy
from llmrec.errors import BundleError
from llmrec.hub.pretrained_backbone import RECORD, save_pretrained

TEXTS = ["red hair oil", "a night of love and war in space", "cream"]
FACTS = {
    "data": {"source": "toys"},
    "config": {"objectives": {"contrast": 1.0, "mlm": 0.5}},
    "corpus": {"n_events": 1234},
    "best_step": 20.0,
}


def trained(path: Path, strategy: Strategy, **changes: object) -> TextBackbone:
    config = BackboneConfig(name=str(path), hub_id="owner/tiny", strategy=strategy, last_k=1, lora=LoraConfig(rank=2))
    backbone = TextBackbone.load(replace(config, **changes))
    apply_strategy(backbone, config)
    with torch.no_grad():
        for parameter in backbone.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05 * torch.randn_like(parameter))
    return backbone


def read(backbone: TextBackbone) -> torch.Tensor:
    return backbone.encode(backbone.tokenize(TEXTS))


@pytest.mark.parametrize("strategy", ["last_k", "lora", "full"])
@pytest.mark.parametrize("model", ["tiny_bert", "tiny_gpt2"])
def test_it_reads_as_the_model_in_memory(
    model: str, strategy: Strategy, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    torch.manual_seed(0)
    path = request.getfixturevalue(model)
    backbone = trained(path, strategy)
    before = read(backbone)
    save_pretrained(tmp_path / "out", backbone, FACTS)
    loaded = TextBackbone.load(BackboneConfig(name=str(tmp_path / "out")))
    assert loaded.pooling == backbone.pooling
    torch.testing.assert_close(read(loaded), before, atol=1e-5, rtol=0)
    torch.testing.assert_close(read(backbone), before)  # saving leaves it as it was
    assert not torch.allclose(before, read(TextBackbone.load(BackboneConfig(name=str(path)))), atol=1e-3)
    if strategy == "lora":
        base = TextBackbone.load(backbone.config)
        targets = json.loads((tmp_path / "out" / "adapter" / "adapter_config.json").read_text())["target_modules"]
        base.model = load_adapter(base.model, tmp_path / "out" / "adapter", backbone.config.lora.to_adapter(), targets)
        torch.testing.assert_close(read(base), before, atol=1e-5, rtol=0)


@pytest.mark.parametrize("pooling", ["cls", "mean", "last"])
def test_pooling_goes_along(tiny_bert: Path, pooling: str, tmp_path: Path) -> None:
    save_pretrained(tmp_path / "out", trained(tiny_bert, "full", pooling=pooling), FACTS)
    assert TextBackbone.load(BackboneConfig(name=str(tmp_path / "out"))).pooling == pooling


def test_record_and_card(tiny_bert: Path, tmp_path: Path) -> None:
    save_pretrained(tmp_path / "out", trained(tiny_bert, "lora"), FACTS)
    assert json.loads((tmp_path / "out" / RECORD).read_text()) == FACTS
    card = (tmp_path / "out" / "README.md").read_text()
    assert "base_model: owner/tiny" in card
    assert "contrast x 1 and mlm x 0.5 (lora, 20 steps), on 1,234 training events" in card


def test_whole_or_not_at_all(tiny_bert: Path, tmp_path: Path) -> None:
    backbone, out = trained(tiny_bert, "full"), tmp_path / "out"
    save_pretrained(out, backbone, FACTS)
    older = {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}
    with pytest.raises(KeyError):
        save_pretrained(out, backbone, {"data": {}})  # fails at the card, after the weights
    assert {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()} == older
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    save_pretrained(out, backbone, FACTS | {"best_step": 40.0})  # an older one is replaced
    assert json.loads((out / RECORD).read_text())["best_step"] == 40.0
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    with pytest.raises(BundleError, match="is not a pretrained backbone"):
        save_pretrained(tmp_path / "mine", backbone, FACTS)
