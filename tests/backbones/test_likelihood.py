"""A shared prefix and padded batches change no likelihood."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from llmrec.backbones import likelihood as module
from llmrec.backbones.likelihood import LineLikelihood
from llmrec.backbones.text_backbone import TextBackbone
from llmrec.config.backbone import BackboneConfig
from llmrec.errors import BackboneError

TEXTS = ["red shoes", "a much longer text about love and war in space", "x", "night\nriver", *["hair oil"] * 20]


def judge(path: Path, **changes: object) -> LineLikelihood:
    return LineLikelihood(TextBackbone.load(replace(BackboneConfig(name=str(path), hub_id="owner/tiny"), **changes)))


@pytest.mark.parametrize("name", ["tiny_gpt2", "tiny_llama"])
def test_they_are_those_of_a_plain_forward_pass(
    name: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = request.getfixturevalue(name)
    monkeypatch.setattr(module, "TOKENS_AT_ONCE", 40)  # several batches, some of them padded
    ours = judge(path)
    with torch.no_grad():  # far from uniform, so that a wrong position would show
        for parameter in ours.backbone.model.parameters():
            parameter.mul_(3)
    whole = AutoModelForCausalLM.from_pretrained(path).eval()
    whole.base_model.load_state_dict(ours.backbone.model.state_dict())
    whole.lm_head.load_state_dict(ours.head.model.lm_head.state_dict())
    prefix, lines = ours.tokenize("films of love, in order:\n-", special=True), ours.tokenize_lines(TEXTS)
    found = ours.score_lines(prefix, lines)
    for row, value in enumerate(found):
        line = lines.flat[lines.offset[row] : lines.offset[row + 1]].astype(np.int64)
        ids = torch.from_numpy(np.concatenate([prefix, line]))
        with torch.no_grad():
            log_p = whole(input_ids=ids[None]).logits[0].log_softmax(-1)
        expected = float(log_p[len(prefix) - 1 : -1].gather(1, torch.from_numpy(line)[:, None]).sum())
        assert value == pytest.approx(expected, abs=1e-4)
    assert np.ptp(found) > 1
    assert np.array_equal(ours.score_lines(prefix, lines), found)  # the kept prefix is as it was


def test_a_line_ends_and_holds_no_other_line(tiny_llama: Path) -> None:
    ours = judge(tiny_llama, max_tokens=6)
    lines = ours.tokenize_lines(TEXTS)
    decoded = [
        ours.backbone.tokenizer.decode(lines.flat[a:b]) for a, b in zip(lines.offset, lines.offset[1:], strict=False)
    ]
    assert decoded[2] == " x\n"
    assert all(line.startswith(" ") and line.endswith("\n") and line.count("\n") == 1 for line in decoded)
    assert lines.lengths.max() == 6


def test_a_prefix_begins_as_the_tokenizer_has_it(tiny_llama: Path) -> None:
    ours = judge(tiny_llama)
    assert ours.tokenize("hats", special=True).tolist() == [0, *ours.tokenize("hats").tolist()]


def test_encoders_and_what_does_not_fit_are_refused(tiny_bert: Path, tiny_gpt2: Path) -> None:
    with pytest.raises(BackboneError, match="is an encoder"):
        judge(tiny_bert)
    ours = judge(tiny_gpt2)
    with pytest.raises(BackboneError, match=r"takes 128. Shorten the history"):
        ours.score_lines(np.zeros(128, dtype=np.int64), ours.tokenize_lines(["hats"]))
    with pytest.raises(BackboneError, match="prefix: empty"):
        ours.score_lines(np.zeros(0, dtype=np.int64), ours.tokenize_lines(["hats"]))
