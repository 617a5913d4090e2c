"""The card says what the record says."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard

from llmrec.config.backbone import Strategy
from llmrec.config.split import SplitConfig
from llmrec.hub.bundle import Bundle, save_bundle
from llmrec.hub.card import RepoRef
from llmrec.hub.layout import LAYOUT

Make = Callable[[Strategy], Bundle]


def card_and_record(folder: Path, bundle: Bundle) -> tuple[str, dict[str, Any]]:
    save_bundle(folder, bundle)
    record: dict[str, Any] = json.loads((folder / LAYOUT.settings).read_text(encoding="utf-8"))
    return (folder / LAYOUT.card).read_text(encoding="utf-8"), record


@pytest.mark.parametrize("strategy", ["none", "frozen", "lora"])
def test_the_hub_reads_the_card_and_it_repeats_the_record(
    make_bundle: Make, tmp_path: Path, strategy: Strategy
) -> None:
    text, record = card_and_record(tmp_path / "bundle", make_bundle(strategy))
    data = ModelCard(text).data
    assert data.library_name == "llmrec"
    assert data.base_model == (None if strategy == "none" else "owner/tiny")
    assert ("lora" in data.tags) is (strategy == "lora")
    assert "| **llmrec (frozen backbone)** | 0.1234 | 0.1000 to 0.1500 | 1,234 |" in text
    assert "| popularity | 0.0500 |  | 1,234 |" in text
    assert record["facts"]["fingerprint"] in text
    assert "Recommender.from_pretrained" in text
    assert ("recommender.score(" in text) is (strategy != "none")
    assert "None" not in text


@pytest.mark.parametrize(("strategy", "relation"), [("none", None), ("full", "finetune"), ("lora", "adapter")])
def test_the_front_matter_is_yaml(make_bundle: Make, tmp_path: Path, strategy: Strategy, relation: str | None) -> None:
    text, _ = card_and_record(tmp_path / "bundle", make_bundle(strategy))
    opening, front, _ = text.split("---\n", 2)
    assert opening == ""
    metadata = yaml.safe_load(front)
    assert metadata == ModelCard(text).data.to_dict()
    assert metadata.get("base_model_relation") == relation


def test_the_numbers_are_in_the_metadata(make_bundle: Make, tmp_path: Path) -> None:
    text, _ = card_and_record(tmp_path / "bundle", make_bundle("frozen"))
    (result,) = ModelCard(text).data.eval_results
    assert (result.metric_type, result.metric_value, result.dataset_name) == ("ndcg@10", 0.1234, "planted_world")


def test_what_was_found_beside_the_numbers_is_told(
    make_bundle: Make, add_drift: Callable[[Bundle], Bundle], tmp_path: Path
) -> None:
    plain = make_bundle("frozen")
    found = {
        "verdicts": {"by_time": "* llmrec is better than popularity (+0.0734)."},
        "sections": {"What other domains were worth": "Negative transfer: -0.0029."},
        "drift": ["What an event says of its user's next one halves in 9 days."],
    }
    told = add_drift(replace(plain, evaluation=plain.evaluation | found))
    text, _ = card_and_record(tmp_path / "told", told)
    for words in (
        "* llmrec is better than popularity (+0.0734).",
        "### What other domains were worth\n\nNegative transfer: -0.0029.",
        "## Interest that moves",
        "interest, environment, transitions, chain, gate",
        "* What an event says of its user's next one halves in 9 days.",
        "that is in this repository: it needs a log",
        "`drift.safetensors`",
    ):
        assert words in text
    without, _ = card_and_record(tmp_path / "plain", plain)
    assert "Interest that moves" not in without
    assert "drift.safetensors" not in without


def test_a_place_on_the_hub_is_where_to_load_it_from(make_bundle: Make, tmp_path: Path) -> None:
    bundle = make_bundle("frozen")
    for address, arguments in (
        (None, '"path/to/this/folder"'),
        (RepoRef("me/shoes"), '"me/shoes"'),
        (RepoRef("me/shoes", "v2"), '"me/shoes", revision="v2"'),
    ):
        save_bundle(tmp_path / "bundle", bundle, address=address)
        text = (tmp_path / "bundle" / LAYOUT.card).read_text(encoding="utf-8")
        assert f"recommender = Recommender.from_pretrained({arguments})\n" in text
        (code,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
        assert len([line for line in code.splitlines() if line]) <= 5
        assert code.count("i0") >= 1  # an item of this very catalog


def test_every_split_has_its_table_and_the_seed_is_the_one_in_the_bundle(make_bundle: Make, tmp_path: Path) -> None:
    bundle = make_bundle("frozen")
    evaluation = bundle.evaluation
    second = [row | {"split": "leave_one_out", "value": row["value"] / 2} for row in evaluation["rows"]]
    sliced = [row | {"slice": "cold_item", "value": 0.9876} for row in evaluation["rows"]]
    both = evaluation | {
        "rows": [*evaluation["rows"], *second, *sliced],
        "protocol": evaluation["protocol"] | {"leave_one_out": "The last event of each user is ranked."},
    }
    config = replace(
        bundle.config,
        split=SplitConfig(names=("leave_one_out", "by_time")),
        seeds=(3, 4),
        leave_one_out_seeds=(7, 8),
    )
    text, _ = card_and_record(tmp_path / "bundle", replace(bundle, config=config, evaluation=both))
    by_time, leave_one_out = text.split("### leave_one_out")
    assert "| **llmrec (frozen backbone)** | 0.1234 |" in by_time
    assert "| **llmrec (frozen backbone)** | 0.0617 |" in leave_one_out
    assert "The last event of each user is ranked." in leave_one_out
    assert "0.9876" not in text  # a slice is not the whole
    assert "of the split `leave_one_out`, seed 7." in text


def test_a_base_without_a_public_name_is_no_link(make_bundle: Make, tmp_path: Path) -> None:
    bundle = make_bundle("frozen")
    assert bundle.base is not None
    local = replace(bundle.base, hub_id="/home/me/model")
    text, _ = card_and_record(tmp_path / "bundle", replace(bundle, base=local))
    assert ModelCard(text).data.base_model is None
    assert "/home/me" not in text
    assert "a model without a public name" in text
