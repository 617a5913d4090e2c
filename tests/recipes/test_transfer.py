"""The recipe: its YAML loads, and a whole run leaves a verdict and a bundle of the way that validation chose."""

import json
import re
import runpy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from llmrec import Recommender
from llmrec.config.backbone import BackboneConfig
from llmrec.config.data import DataConfig
from llmrec.config.evaluation import EvaluationConfig
from llmrec.config.jobs.transfer import TransferConfig
from llmrec.config.loader import parse_config
from llmrec.config.model import ModelConfig
from llmrec.config.split import SplitConfig
from llmrec.config.train import TrainConfig
from llmrec.errors import ConfigError

RECIPES = Path(__file__).resolve().parents[2] / "recipes"


@pytest.fixture
def config(
    tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, planted_log: Callable[..., DataConfig]
) -> TransferConfig:
    monkeypatch.setenv("LLMREC_CACHE", str(tmp_path / "cache"))
    return TransferConfig(
        planted_log(tmp_path / "target", 0),
        output=tmp_path / "run",
        backbone=BackboneConfig(name=str(tiny_bert), hub_id="owner/tiny"),
        model=ModelConfig(dim=8, max_history=6, dropout=0.0),
        train=TrainConfig(epochs=2, batch_targets=64, learning_rate=5e-3),
        evaluation=EvaluationConfig(baselines=("popularity", "nearest_text"), bootstrap_samples=50, tuning_budget=1),
        sources=(planted_log(tmp_path / "one", 1), planted_log(tmp_path / "other", 2)),
        train_fraction=0.5,
    )


def test_the_yaml_loads_and_opens_with_its_launch_line() -> None:
    path = RECIPES / "transfer.yaml"
    assert parse_config(TransferConfig, ["--config", str(path)]).output == Path("runs/transfer")
    assert path.read_text().startswith("# accelerate launch recipes/transfer.py --config recipes/transfer.yaml")


def test_a_whole_run_leaves_a_verdict_and_what_validation_chose(
    config: TransferConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    runpy.run_path(str(RECIPES / "transfer.py"))["run_transfer"](config)
    report = json.loads((config.output / "report.json").read_text())
    modes = {"zero-shot", "source features", "source weights", "from scratch"}
    assert {row["model"] for row in report["rows"]} == modes | {"popularity", "nearest text"}
    assert report["run"]["share"] == 0.5
    assert [source["n_users"] for source in report["run"]["sources"]] == [60, 60]
    told = report["run"]["transfer"]
    assert told in capsys.readouterr().out
    assert told[1:] in (config.output / "report.md").read_text()  # a sentence there, with a capital
    chosen = re.search(r"chose ([^,]+),", told)
    assert chosen is not None
    assert report["splits"]["by_time"]["headline"] == chosen[1]
    recommender = Recommender.from_pretrained(config.output / "bundle")
    assert len(recommender.recommend(["i1", "i2"], k=3)) == 3


def test_logs_without_times_are_sources_and_targets(config: TransferConfig) -> None:
    order, (one, other) = replace(config.data, times="order_only"), config.sources
    config = replace(config, data=order, split=SplitConfig(), sources=(one, replace(other, times="order_only")))
    runpy.run_path(str(RECIPES / "transfer.py"))["run_transfer"](config)
    report = json.loads((config.output / "report.json").read_text())
    assert list(report["splits"]) == ["leave_one_out"]
    assert report["run"]["seeds"] == {"leave_one_out": [0]}


def test_what_cannot_be_compared_is_refused(config: TransferConfig) -> None:
    for changes, named in (
        ({"sources": ()}, "sources is empty"),
        ({"train_fraction": 0.0}, "train_fraction=0.0"),
        ({"split": SplitConfig(names=("by_time", "leave_one_out"))}, "by_time alone"),
        ({"backbone": BackboneConfig(strategy="none")}, "only text can be transferred"),
        ({"model": ModelConfig(history_encoder="text")}, "model.history_encoder=text"),
    ):
        with pytest.raises(ConfigError, match=named):
            replace(config, **changes)  # type: ignore[arg-type]
