"""A head reads the backbone's states as the whole language model would, and is refused where there is none."""

from pathlib import Path

import pytest
import torch

from llmrec.backbones.lm_head import LanguageHead, LanguageTask, make_head
from llmrec.backbones.text_backbone import TextBackbone
from llmrec.config.backbone import BackboneConfig
from llmrec.errors import BackboneError


def load(path: Path) -> TextBackbone:
    return TextBackbone.load(BackboneConfig(name=str(path), hub_id="owner/tiny"))


@pytest.mark.parametrize("task", ["mlm", "clm"])
def test_a_saved_head_gives_the_whole_models_logits(
    task: LanguageTask, tiny_bert: Path, tiny_gpt2: Path, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer

    path = {"mlm": tiny_bert, "clm": tiny_gpt2}[task]
    torch.manual_seed(0)
    whole = {"mlm": AutoModelForMaskedLM, "clm": AutoModelForCausalLM}[task].from_pretrained(path).eval()
    whole.save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(path).save_pretrained(tmp_path)
    backbone = load(tmp_path)
    head = LanguageHead.from_backbone(backbone, task)
    assert head.pretrained
    ids, mask = backbone.tokenize(["red shoes", "hats"]).get_batch(torch.arange(2).numpy(), backbone.device)
    hidden = backbone.model(input_ids=ids, attention_mask=mask).last_hidden_state
    expected = whole(input_ids=ids, attention_mask=mask).logits
    torch.testing.assert_close(head(hidden[mask > 0]), expected[mask > 0])


def test_a_new_head_is_told_and_its_decoder_is_the_embeddings(tiny_bert: Path) -> None:
    backbone = load(tiny_bert)
    head = make_head(backbone, ["mlm", "contrast"])
    assert head is not None
    assert not head.pretrained
    assert "the checkpoint has none" in head.describe_origin()
    embeddings = backbone.model.get_input_embeddings().weight
    assert any(parameter is embeddings for parameter in head.parameters())
    assert make_head(backbone, ["contrast"]) is None


def test_a_backbone_refuses_the_others_task(tiny_bert: Path, tiny_gpt2: Path) -> None:
    with pytest.raises(BackboneError, match=r"objectives\.mlm: GPT2Model is a decoder.*Use clm"):
        make_head(load(tiny_gpt2), ["mlm"])
    with pytest.raises(BackboneError, match=r"objectives\.clm, histories: BertModel is an encoder.*Use mlm"):
        make_head(load(tiny_bert), ["clm"])
