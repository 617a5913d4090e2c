"""An exported encoder makes the bundle's own text vectors, read as sentence-transformers reads it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from llmrec.backbones.model_files.vector_recipe import POOLING_FLAGS
from llmrec.backbones.pooling import pool
from llmrec.cli.main import main
from llmrec.config.backbone import Strategy
from llmrec.errors import BundleError
from llmrec.hub.bundle import Bundle, load_backbone, load_bundle, save_bundle
from llmrec.hub.encoder_export import export_merged_encoder

Make = Callable[..., Bundle]
TEXTS = ["red hair oil", "a night of love and war in space " * 30, "cream", "x"]


def read(folder: Path, texts: list[str]) -> torch.Tensor:
    """By the folder's own files and nothing of ours but the arithmetic of pooling."""
    chain = [part["type"].rsplit(".", 1)[-1] for part in json.loads((folder / "modules.json").read_text())]
    assert chain == ["Transformer", "Pooling", "Normalize"]
    length = json.loads((folder / "sentence_bert_config.json").read_text())["max_seq_length"]
    settings = json.loads((folder / "config_sentence_transformers.json").read_text())
    prompt = settings["prompts"].get(settings["default_prompt_name"], "")
    modes = json.loads((folder / "1_Pooling" / "config.json").read_text())
    (mode,) = [name for name, on in modes.items() if on is True]
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    texts = [prompt + text for text in texts]
    batch = tokenizer(texts, padding=True, truncation=True, max_length=length, return_tensors="pt")
    ids = {name: batch[name] for name in ("input_ids", "attention_mask")}
    with torch.no_grad():
        hidden = model(**ids).last_hidden_state
    return torch.nn.functional.normalize(pool(hidden, ids["attention_mask"], POOLING_FLAGS[mode]), dim=-1)


@pytest.mark.parametrize(
    ("family", "strategy", "prompt"),
    [
        ("tiny_bert", "frozen", "this movie: {text}"),
        ("tiny_bert", "lora", "{text}"),
        ("tiny_gpt2", "last_k", "{text}"),
        ("tiny_llama", "lora", "this movie: {text}"),
    ],
)
def test_its_vectors_are_the_bundle_s(
    make_bundle: Make, tmp_path: Path, request: pytest.FixtureRequest, family: str, strategy: Strategy, prompt: str
) -> None:
    path = request.getfixturevalue(family)
    save_bundle(tmp_path / "bundle", make_bundle(strategy, path, prompt=prompt))
    main(["export", str(tmp_path / "bundle"), "--output", str(tmp_path / "out"), "--backbone", str(path)])
    backbone = load_backbone(tmp_path / "bundle", load_bundle(tmp_path / "bundle"), backbone=str(path))
    expected = backbone.encode(backbone.tokenize(TEXTS))
    torch.testing.assert_close(read(tmp_path / "out", TEXTS), expected, atol=1e-5, rtol=0)
    assert not (tmp_path / "out" / "adapter_config.json").exists()
    card = (tmp_path / "out" / "README.md").read_text()
    assert "base_model: owner/tiny" in card
    assert f"transferred as `{strategy}`" in card


def test_what_sentence_transformers_cannot_do_is_refused(make_bundle: Make, tmp_path: Path, tiny_bert: Path) -> None:
    wordy, ids = make_bundle("frozen", prompt='"{text}" means'), make_bundle("none")
    for name, bundle in (("wordy", wordy), ("ids", ids)):
        save_bundle(tmp_path / name, bundle)
    with pytest.raises(BundleError, match="does not support words after the text"):
        export_merged_encoder(
            tmp_path / "out", load_backbone(tmp_path / "wordy", wordy, backbone=str(tiny_bert)), wordy
        )
    with pytest.raises(SystemExit):
        main(["export", str(tmp_path / "ids"), "--output", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()
