"""A decoder can be made to look ahead, and stays so when it is saved."""

from pathlib import Path

import pytest
import torch

from llmrec.backbones.text_backbone import TextBackbone
from llmrec.config.backbone import BackboneConfig

TEXTS = ["red shoes", "red shoes with a long text behind them", "hats"]


@pytest.mark.parametrize("name", ["tiny_llama", "tiny_gpt2"])
def test_a_bidirectional_decoder_sees_later_words(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    path = request.getfixturevalue(name)
    causal = TextBackbone.load(BackboneConfig(name=str(path)))
    both = TextBackbone.load(BackboneConfig(name=str(path), bidirectional=True))
    assert causal.causal
    assert (both.causal, both.pooling, both.appends_eos) == (False, "mean", False)
    tokens = both.tokenize(TEXTS)
    padded = both.encode(tokens)
    alone = torch.cat([both.encode(tokens.take(torch.tensor([row]).numpy())) for row in range(3)])
    torch.testing.assert_close(padded, alone)  # with and without a mask
    fast = both.encode(both.tokenize(TEXTS * 400))[:3]
    torch.testing.assert_close(fast, alone)
    both.model.save_pretrained(tmp_path)
    both.tokenizer.save_pretrained(tmp_path)
    again = TextBackbone.load(BackboneConfig(name=str(tmp_path)))
    assert not again.causal
    torch.testing.assert_close(again.encode(again.tokenize(TEXTS)), padded)
