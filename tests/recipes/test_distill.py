"""The recipe: its YAML loads, and a student of a quickly trained bundle is a bundle that reads by itself."""

import json
import runpy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from llmrec import Recommender
from llmrec.config.backbone import BackboneConfig
from llmrec.config.data import DataConfig
from llmrec.config.evaluation import EvaluationConfig
from llmrec.config.jobs.distill import DistillConfig
from llmrec.config.jobs.finetune import FinetuneConfig
from llmrec.config.loader import parse_config
from llmrec.config.model import ModelConfig
from llmrec.config.train import TrainConfig
from llmrec.errors import ConfigError

RECIPES = Path(__file__).resolve().parents[2] / "recipes"


@pytest.fixture
def config(
    tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, planted_log: Callable[..., DataConfig]
) -> DistillConfig:
    """Of a student, with its teacher already there."""
    monkeypatch.setenv("LLMREC_CACHE", str(tmp_path / "cache"))
    evaluation = EvaluationConfig(baselines=("popularity",), bootstrap_samples=50, tuning_budget=1)
    train = TrainConfig(epochs=1, batch_targets=64, learning_rate=5e-3, trainable_items_per_step=16)
    backbone = BackboneConfig(name=str(tiny_bert), hub_id="owner/tiny")
    teacher = FinetuneConfig(
        planted_log(tmp_path / "log"), tmp_path / "teacher", backbone=backbone,
        model=ModelConfig(dim=8, max_history=6), train=train, evaluation=evaluation,
    )  # fmt: skip
    runpy.run_path(str(RECIPES / "finetune.py"))["run_finetune"](teacher)
    student = replace(backbone, n_layers=1, strategy="full")
    return DistillConfig(
        tmp_path / "teacher" / "bundle", None, tmp_path / "student", student, train=train, evaluation=evaluation
    )


def test_the_yaml_loads_and_opens_with_its_launch_line() -> None:
    path = RECIPES / "distill.yaml"
    found = parse_config(DistillConfig, ["--config", str(path), "--teacher", "somewhere"])
    assert found.output == Path("runs/distill")
    assert path.read_text().startswith("# accelerate launch recipes/distill.py --config recipes/distill.yaml")


def test_a_student_is_a_bundle_that_reads_by_itself(
    config: DistillConfig, tiny_bert: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    main = runpy.run_path(str(RECIPES / "distill.py"))["run_distill"]
    monkeypatch.setattr("llmrec.hub.base_model.find_packaged_copy", lambda hub_id: tiny_bert)  # owner/tiny is on no hub
    main(config)
    report = json.loads((config.output / "report.json").read_text())
    assert {row["model"] for row in report["rows"]} == {
        "teacher",
        "student before distillation",
        "student",
        "popularity",
    }
    told = report["run"]["distillation"]
    assert told in capsys.readouterr().out
    assert "of the teacher's ndcg@10 on the test, and reads at" in told
    student = Recommender.from_pretrained(config.output / "bundle", backbone=str(tiny_bert))
    assert student.config.backbone.n_layers == 1
    assert len(student.score(["i1"], [{"text": "new big pack"}])) == 1  # the reading was checked when it was loaded
    events = config.teacher.parents[1] / "log" / "interactions.parquet"
    pq.write_table(pq.read_table(events).slice(0, 300), events)
    with pytest.raises(ConfigError, match="not the log that"):
        main(config)


def test_a_student_that_cannot_learn_is_refused() -> None:
    with pytest.raises(ConfigError, match="a student's backbone trains"):
        DistillConfig(Path("teacher"), backbone=BackboneConfig(strategy="frozen"))
    teacher = FinetuneConfig(DataConfig(), model=ModelConfig(history_encoder="text"))
    with pytest.raises(ConfigError, match=r"its own backbone \(model.history_encoder=text\)"):
        DistillConfig(Path("teacher")).student_config(teacher)
