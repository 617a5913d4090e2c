"""Static token vectors are a backbone: a text's vector is the mean of its tokens' rows, and the rows train."""

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from llmrec.backbones.adaptation import apply_strategy
from llmrec.backbones.static_model import EMBEDDING, unpack_static
from llmrec.backbones.text_backbone import TextBackbone
from llmrec.config.backbone import BackboneConfig
from llmrec.errors import BackboneError

WORDS = ["<unk>", "<s>", "</s>", "red", "shoes", "hats"]
MATRIX = torch.tensor(np.random.default_rng(0).normal(size=(len(WORDS), 4))).half()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LLMREC_CACHE", str(tmp_path / "cache"))
    words = Tokenizer(models.WordLevel({word: row for row, word in enumerate(WORDS)}, unk_token="<unk>"))
    words.add_special_tokens(WORDS[:3])
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    words.save(str(tmp_path / "tokenizer.json"))
    save_file({EMBEDDING: MATRIX}, tmp_path / "words.safetensors")
    return unpack_static(tmp_path / "words.safetensors", tmp_path / "tokenizer.json")


def test_a_vector_is_the_mean_of_the_words_without_special_tokens(folder: Path) -> None:
    backbone = TextBackbone.load(BackboneConfig(name=str(folder)))
    vectors = backbone.encode(backbone.tokenize(["red shoes", "hats"]))
    mean = torch.stack([MATRIX[3:5].float().mean(0), MATRIX[5].float()])
    torch.testing.assert_close(vectors, torch.nn.functional.normalize(mean, dim=1))
    assert backbone.pooling == "mean"
    assert not backbone.appends_eos


def test_a_file_is_converted_once(folder: Path, tmp_path: Path) -> None:
    before = (folder / "model.safetensors").stat().st_mtime_ns
    assert unpack_static(tmp_path / "words.safetensors", tmp_path / "tokenizer.json") == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == before


def test_all_rows_train_and_come_back_from_a_folder(folder: Path, tmp_path: Path) -> None:
    config = BackboneConfig(name=str(folder), strategy="full")
    backbone = TextBackbone.load(config)
    assert apply_strategy(backbone, config).trainable == MATRIX.numel()
    tokens = backbone.tokenize(["red shoes", "hats"])
    backbone.encode_with_grad(tokens)[0, 0].backward()
    gradient = backbone.model.get_input_embeddings().weight.grad  # type: ignore[operator]
    assert gradient.abs().sum(1).bool().tolist() == [False, False, False, True, True, False]
    with torch.no_grad():
        next(backbone.model.parameters()).add_(torch.arange(4.0))
    backbone.model.save_pretrained(tmp_path / "trained")
    backbone.tokenizer.save_pretrained(tmp_path / "trained")
    again = TextBackbone.load(BackboneConfig(name=str(tmp_path / "trained"), pooling="mean"))
    torch.testing.assert_close(again.encode(again.tokenize(["red shoes", "hats"])), backbone.encode(tokens))


@pytest.mark.parametrize("strategy", ["last_k", "lora"])
def test_strategies_that_need_layers_are_refused(folder: Path, strategy: str) -> None:
    config = BackboneConfig(name=str(folder), strategy=strategy)  # type: ignore[arg-type]
    with pytest.raises(BackboneError, match=r"StaticTextModel has no|linear layers"):
        apply_strategy(TextBackbone.load(config), config)


@pytest.mark.skipif(find_spec("wordllama") is None, reason="needs the package wordllama (extra: static)")
def test_wordllama_reads_as_its_own_package_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from wordllama.inference import WordLlamaInference

    monkeypatch.setenv("LLMREC_CACHE", str(tmp_path))
    backbone = TextBackbone.load(BackboneConfig(name="packaged:wordllama"))
    spec = find_spec("wordllama")
    assert spec is not None
    assert spec.origin is not None
    module = Path(spec.origin).parent
    matrix = load_file(module / "weights" / "l2_supercat_256.safetensors")[EMBEDDING].numpy()
    rules = json.loads((module / "tokenizers" / "l2_supercat_tokenizer_config.json").read_text())
    reference = WordLlamaInference(matrix, Tokenizer.from_str(json.dumps(rules)))
    texts = ["Red shoes for women", "a café au lait", "x"]
    expected = torch.from_numpy(reference.embed(texts, norm=True))
    torch.testing.assert_close(backbone.encode(backbone.tokenize(texts)), expected)
