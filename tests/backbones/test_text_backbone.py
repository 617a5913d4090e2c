"""Texts to vectors, by encoders and decoders that AutoModel loads."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from llmrec.backbones.text_backbone import TextBackbone
from llmrec.config.backbone import BackboneConfig
from llmrec.errors import BackboneError

TEXTS = ["red shoes", "a much longer text about blue shoes and hats", "hats"]


def load(path: Path, **changes: object) -> TextBackbone:
    return TextBackbone.load(replace(BackboneConfig(name=str(path), hub_id="owner/tiny"), **changes))


def test_architecture_chooses_the_pooling(tiny_bert: Path, tiny_gpt2: Path, tiny_llama: Path) -> None:
    assert load(tiny_bert).pooling == "mean"
    assert load(tiny_gpt2).pooling == load(tiny_llama).pooling == "last"
    assert load(tiny_bert, pooling="cls").pooling == "cls"


def test_batching_and_padding_leave_vectors_alone(tiny_bert: Path, tiny_gpt2: Path, tiny_llama: Path) -> None:
    for path in (tiny_bert, tiny_gpt2, tiny_llama):
        backbone = load(path)
        together = backbone.encode(backbone.tokenize(TEXTS))
        alone = torch.cat([backbone.encode(backbone.tokenize([text])) for text in TEXTS])
        torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)
        torch.testing.assert_close(together.norm(dim=1), torch.ones(3))
        torch.testing.assert_close(backbone.encode_with_grad(backbone.tokenize(TEXTS)), together, atol=1e-5, rtol=0)


def test_a_decoders_vector_is_the_state_at_its_eos(tiny_gpt2: Path, tiny_llama: Path) -> None:
    for path in (tiny_gpt2, tiny_llama):
        backbone = load(path)
        eos = torch.tensor([backbone.tokenizer.eos_token_id])
        for text, vector in zip(TEXTS, backbone.encode(backbone.tokenize(TEXTS)), strict=True):
            ids = torch.cat([torch.tensor(backbone.tokenizer(text)["input_ids"]), eos])
            with torch.no_grad():
                state = backbone.model(input_ids=ids[None]).last_hidden_state[0, -1]
            torch.testing.assert_close(vector, torch.nn.functional.normalize(state, dim=0), atol=1e-5, rtol=0)


def test_prompt_wraps_the_text(tiny_bert: Path) -> None:
    prompted, plain = load(tiny_bert, prompt="shoes {text}"), load(tiny_bert)
    assert np.array_equal(prompted.tokenize(["hats"]).flat, plain.tokenize(["shoes hats"]).flat)


def test_fingerprint_follows_weights_and_recipe(tiny_bert: Path) -> None:
    backbone = load(tiny_bert)
    before = backbone.fingerprint()
    assert load(tiny_bert).fingerprint() == before
    assert load(tiny_bert, prompt="x {text}").fingerprint() != before
    with torch.no_grad():
        next(backbone.model.parameters()).add_(1e-3)
    assert backbone.fingerprint() != before


def test_missing_weights_are_named(tmp_path: Path) -> None:
    with pytest.raises(BackboneError, match="no such folder"):
        TextBackbone.load(BackboneConfig(name=str(tmp_path / "absent")))
    (tmp_path / "empty").mkdir()
    with pytest.raises(BackboneError, match="empty"):
        TextBackbone.load(BackboneConfig(name=str(tmp_path / "empty")))
    with pytest.raises(BackboneError, match="all-MiniLM-L6-v2"):
        TextBackbone.load(BackboneConfig(name="packaged:nothing"))


def test_minilm_vectors_are_those_of_its_authors_pooling(minilm: Path) -> None:
    from transformers import AutoModel, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(minilm), AutoModel.from_pretrained(minilm).eval()
    backbone = TextBackbone.load(BackboneConfig(name="packaged:all-MiniLM-L6-v2"))
    assert backbone.hub_id == "sentence-transformers/all-MiniLM-L6-v2"
    for text, vector in zip(TEXTS, backbone.encode(backbone.tokenize(TEXTS)), strict=True):
        with torch.no_grad():
            hidden = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]
        mean = torch.nn.functional.normalize(hidden.mean(0), dim=0)
        assert float(mean @ vector) > 1 - 1e-5


def test_the_copy_that_reads_faster_follows_the_weights(tiny_bert: Path) -> None:
    backbone = load(tiny_bert)
    with torch.no_grad():
        first = backbone.fast_encoding._copy_as(torch.float16)
        for weight in backbone.model.parameters():
            weight.add_(1)
        assert backbone.fast_encoding._copy_as(torch.float16) is first
    for copied, weight in zip(first.parameters(), backbone.model.parameters(), strict=True):
        assert torch.equal(copied, weight.half())


def test_a_decoder_is_read_at_the_end_of_its_prompt(tiny_llama: Path) -> None:
    prompt = '"{text}" in one word:'
    backbone = TextBackbone.load(BackboneConfig(name=str(tiny_llama), prompt=prompt, max_tokens=16))
    plain = TextBackbone.load(BackboneConfig(name=str(tiny_llama), max_tokens=16))
    closing = plain.tokenizer('" in one word:', add_special_tokens=False)["input_ids"]
    tokens = backbone.tokenize(["hats", "red shoes and much more than there is room for in a text of this length"])
    assert not backbone.appends_eos
    for row in range(2):
        ids = tokens.flat[tokens.offset[row] : tokens.offset[row + 1]].tolist()
        assert ids[-len(closing) :] == closing  # also where the text is cut
        assert len(ids) <= 16
    with torch.no_grad():
        ids, mask = tokens.get_batch(np.array([0]), backbone.device)
        last = backbone.model(input_ids=ids, attention_mask=mask).last_hidden_state[:, -1]
    torch.testing.assert_close(backbone.encode(tokens)[:1], torch.nn.functional.normalize(last, dim=-1))
    with pytest.raises(BackboneError, match="alone has"):
        TextBackbone.load(BackboneConfig(name=str(tiny_llama), prompt=prompt, max_tokens=4)).tokenize(["hats"])


def test_echo_takes_the_second_reading_alone(tiny_llama: Path, tiny_bert: Path) -> None:
    backbone = TextBackbone.load(BackboneConfig(name=str(tiny_llama), pooling="echo", max_tokens=8))
    tokens = backbone.tokenize(["hats", "red shoes"])
    once = backbone.tokenizer("red shoes", add_special_tokens=False)["input_ids"]
    assert tokens.flat[tokens.offset[1] :].tolist() == [backbone.tokenizer.bos_token_id, *once, *once]
    with torch.no_grad():
        ids, mask = tokens.get_batch(np.array([1]), backbone.device)
        hidden = backbone.model(input_ids=ids, attention_mask=mask).last_hidden_state[0]
    expected = torch.nn.functional.normalize(hidden[1 + len(once) :].mean(0), dim=0)
    torch.testing.assert_close(backbone.encode(tokens)[1], expected)
    with pytest.raises(BackboneError, match=r"echo: .* is an encoder"):
        TextBackbone.load(BackboneConfig(name=str(tiny_bert), pooling="echo"))
