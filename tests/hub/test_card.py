"""The card says what the record says."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from llmrec.config import Strategy
from llmrec.hub.bundle import Bundle, save_bundle
from llmrec.hub.layout import LAYOUT


@pytest.mark.parametrize("strategy", ["none", "frozen", "lora"])
def test_the_hub_reads_the_card_and_it_repeats_the_record(
    make_bundle: Callable[[Strategy], Bundle], tmp_path: Path, strategy: Strategy
) -> None:
    save_bundle(tmp_path / "bundle", make_bundle(strategy))
    text = (tmp_path / "bundle" / LAYOUT.card).read_text(encoding="utf-8")
    record = json.loads((tmp_path / "bundle" / LAYOUT.settings).read_text(encoding="utf-8"))
    data = ModelCard(text).data
    assert data.library_name == "llmrec"
    assert data.base_model == (None if strategy == "none" else "owner/tiny")
    assert ("lora" in data.tags) is (strategy == "lora")
    assert "| **llmrec** | 0.1234 | 0.1000 to 0.1500 | 1,234 |" in text
    assert "| popularity | 0.0500 |  | 1,234 |" in text
    assert record["facts"]["fingerprint"] in text
    assert "Recommender.from_pretrained" in text
    assert "None" not in text
