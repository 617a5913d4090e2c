"""The recipe: processes share the queries, and their report is the one that a single process writes."""

import json
import runpy
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from llmrec.cli.main import main as command_line
from llmrec.config.backbone import BackboneConfig
from llmrec.config.data import DataConfig
from llmrec.config.evaluation import EvaluationConfig
from llmrec.config.jobs.evaluate import EvaluateConfig
from llmrec.config.jobs.finetune import FinetuneConfig
from llmrec.config.loader import parse_config
from llmrec.config.model import ModelConfig
from llmrec.config.train import TrainConfig
from llmrec.errors import ConfigError
from llmrec.evaluation.ranking import BATCH
from tests.closeness import assert_same

RECIPES = Path(__file__).resolve().parents[2] / "recipes"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, planted_log: Callable[..., DataConfig]) -> FinetuneConfig:
    """A bundle on ids alone, in the output's folder."""
    folder = tmp_path_factory.mktemp("evaluate")
    config = FinetuneConfig(
        planted_log(folder / "log", n_users=800), folder / "run", backbone=BackboneConfig(strategy="none"),
        model=ModelConfig(dim=8, max_history=6), train=TrainConfig(epochs=1, batch_targets=64),
        evaluation=EvaluationConfig(bootstrap_samples=50, baselines=()),
    )  # fmt: skip
    runpy.run_path(str(RECIPES / "finetune.py"))["run_finetune"](config)
    return config


@pytest.fixture
def config(trained: FinetuneConfig, tmp_path: Path) -> EvaluateConfig:
    return EvaluateConfig(trained.output / "bundle", output=tmp_path / "again")


def run(config: EvaluateConfig) -> dict[str, Any]:
    runpy.run_path(str(RECIPES / "evaluate.py"))["run_evaluate"](config)
    return json.loads((config.output / "report.json").read_text())


def test_two_processes_write_the_report_of_one(
    config: EvaluateConfig,
    trained: FinetuneConfig,
    two_processes: Callable[..., "subprocess.CompletedProcess[str]"],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    done = two_processes(
        RECIPES / "evaluate.py", "--bundle", str(config.bundle), "--output", str(tmp_path / "two")
    )  # fmt: skip
    assert (tmp_path / "two" / "report.json").is_file(), done.stderr[-2000:]
    shared = json.loads((tmp_path / "two" / "report.json").read_text())
    alone = run(config)
    assert (shared["run"]["processes"], alone["run"]["processes"]) == (2, 1)
    overall = next(row for row in alone["rows"] if row["slice"] == "overall")
    assert overall["n"] > 2 * BATCH  # enough for both
    assert_same(shared["rows"], alone["rows"])
    assert {key: alone["splits"]["by_time"][key] for key in ("protocol", "headline")} == {
        key: shared["splits"]["by_time"][key] for key in ("protocol", "headline")
    }
    of_training = json.loads((trained.output / "report.json").read_text())["rows"]
    assert alone["rows"] == of_training
    table = capsys.readouterr().out
    command_line(["evaluate", str(config.bundle)])
    assert capsys.readouterr().out in table
    assert table[table.index("slice ") : table.index("\n\n/")] in done.stdout


def test_another_log_is_told_or_refused(config: EvaluateConfig, trained: FinetuneConfig, tmp_path: Path) -> None:
    assert "note" not in run(replace(config, max_queries=9))["run"]
    of_nine = run(replace(config, split="leave_one_out", max_queries=9))
    assert "may have seen the test part" in of_nine["run"]["note"]
    assert "may have seen the test part" in (config.output / "report.md").read_text()
    assert next(row for row in of_nine["rows"] if row["slice"] == "overall")["n"] == 9
    other = tmp_path / "other"
    other.mkdir()
    for name, rows in (("interactions", None), ("items", 49)):
        table = pq.read_table(Path(str(trained.data.source)) / f"{name}.parquet")
        pq.write_table(table.slice(0, rows), other / f"{name}.parquet")
    drop = DataConfig(source=str(other), unknown_items="drop")
    with pytest.raises(ConfigError, match="its items differ from the bundle's"):
        run(replace(config, data=drop))


def test_settings_are_read_from_the_command_line() -> None:
    found = parse_config(EvaluateConfig, ["--bundle", "here", "--data.source", "there", "--split", "leave_one_out"])
    assert found == EvaluateConfig(Path("here"), DataConfig(source="there"), "leave_one_out")
