"""The recipe: its YAML loads, and its report tells how candidates came about, whoever proposes them."""

import json
import runpy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from llmrec.config.backbone import BackboneConfig
from llmrec.config.data import DataConfig
from llmrec.config.evaluation import EvaluationConfig
from llmrec.config.jobs.finetune import FinetuneConfig
from llmrec.config.jobs.rerank import PromptConfig, RerankConfig
from llmrec.config.loader import parse_config
from llmrec.config.model import ModelConfig
from llmrec.config.train import TrainConfig
from llmrec.config.validation import validate_bounds
from llmrec.errors import ConfigError

RECIPES = Path(__file__).resolve().parents[2] / "recipes"


@pytest.fixture
def config(tiny_gpt2: Path, tmp_path: Path, planted_log: Callable[..., DataConfig]) -> RerankConfig:
    evaluation = EvaluationConfig(
        (10,), max_queries=8, bootstrap_samples=50, tuning_budget=1, baselines=("popularity",)
    )
    return RerankConfig(
        planted_log(tmp_path / "log"), tmp_path / "run",
        backbone=BackboneConfig(str(tiny_gpt2), "owner/tiny", max_tokens=16), n_candidates=12,
        prompt=PromptConfig("Bought:", history=2), evaluation=evaluation,
    )  # fmt: skip


def run(config: RerankConfig) -> dict[str, object]:
    runpy.run_path(str(RECIPES / "rerank.py"))["run_rerank"](config)
    return json.loads((config.output / "report.json").read_text())


def test_the_yaml_loads_and_opens_with_its_launch_line() -> None:
    path = RECIPES / "rerank.yaml"
    found = parse_config(RerankConfig, ["--config", str(path)])
    assert found.output == Path("runs/rerank")
    assert path.read_text().startswith("# accelerate launch recipes/rerank.py --config recipes/rerank.yaml")


def test_every_order_is_reported_under_its_protocol(config: RerankConfig, capsys: pytest.CaptureFixture[str]) -> None:
    for candidates, told in (
        ("first_stage", "the 12 unseen items that item_knn ranks first, equals in random order; a target that is not"),
        ("target_and_sampled", "12 candidates, the target itself and 11 unseen items drawn by their popularity"),
    ):
        report = run(replace(config, candidate_source=candidates))
        assert {row["model"] for row in report["rows"]} == {
            "language model (mean)", "language model (sum)", "language model (gain)", "ItemKNN", "popularity",
            "random order",
        }  # fmt: skip
        for text in (capsys.readouterr().out, (config.output / "report.md").read_text()):
            assert f"ranked among {told}" in text
        share = report["run"]["targets_among_candidates"]
        recalls = [row["value"] for row in report["rows"] if (row["slice"], row["metric"]) == ("overall", "recall@10")]
        assert max(recalls) <= share <= 1
        assert (share == 1) is (candidates == "target_and_sampled")


def test_a_bundle_proposes_where_it_has_not_seen_the_test(config: RerankConfig, tmp_path: Path) -> None:
    trained = FinetuneConfig(
        config.data, tmp_path / "trained", backbone=BackboneConfig(strategy="none"),
        model=ModelConfig(dim=8, max_history=6), train=TrainConfig(epochs=1, batch_targets=64),
        evaluation=replace(config.evaluation, baselines=()),
    )  # fmt: skip
    runpy.run_path(str(RECIPES / "finetune.py"))["run_finetune"](trained)
    ours = replace(config, first_stage=str(tmp_path / "trained" / "bundle"), score_types=("mean",))
    report = run(ours)
    assert {row["model"] for row in report["rows"]} == {"language model (mean)", "bundle", "popularity", "random order"}
    with pytest.raises(ConfigError, match="may have seen this test"):
        run(replace(ours, split=replace(ours.split, test_fraction=0.2)))
    events = Path(str(config.data.source)) / "interactions.parquet"
    pq.write_table(pq.read_table(events).slice(0, 300), events)
    with pytest.raises(ConfigError, match="another log"):
        run(ours)


def test_what_cannot_be_asked_is_refused(config: RerankConfig) -> None:
    with pytest.raises(ConfigError, match="no folder of a bundle, and none of the baselines"):
        run(replace(config, first_stage="item_nn"))
    with pytest.raises(ConfigError, match="n_candidates"):
        validate_bounds(replace(config, n_candidates=1))
    for changes, named in (
        ({"score_types": ()}, "score_types"),
        ({"backbone": BackboneConfig(strategy="lora")}, "nothing trains here"),
    ):
        with pytest.raises(ConfigError, match=named):
            replace(config, **changes)
    with pytest.raises(ConfigError, match=r"prompt.header: empty"):
        PromptConfig(" ")
