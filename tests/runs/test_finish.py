"""The end of a run: report, figures and bundle in its folder, and its tables in print."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from llmrec.config.backbone import Strategy
from llmrec.errors import BundleError
from llmrec.evaluation.metric_rows import MetricRow
from llmrec.evaluation.model_rows import FROZEN, ModelRow
from llmrec.evaluation.results import Protocol, Report, RunMetadata, SplitReport
from llmrec.hub.bundle import Bundle, load_bundle
from llmrec.runs.finish import check_output, finish

POPULAR = ModelRow("baseline", "popularity")


@pytest.fixture
def report() -> Report:
    rows = tuple(
        MetricRow(model, "by_time", "overall", "ndcg@10", value, value - 0.01, value + 0.01, 1000)
        for model, value in ((FROZEN, 0.05), (POPULAR, 0.04))
    )
    protocol = Protocol(50, "strict", "known", mask_seen=True)
    return Report((SplitReport("by_time", FROZEN, protocol, rows, ()),), "ndcg@10", 1000, RunMetadata(minutes=1.5))


def test_a_run_writes_all_and_prints_its_tables(
    report: Report, make_bundle: Callable[[Strategy], Bundle], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    training = [{"model": "llmrec", "seed": 0, "split": "by_time", "epoch": 1.0, "loss": 2.0, "valid_ndcg": 0.05}]
    finish(report, make_bundle("none"), tmp_path, training=training, notes=["adapted weights dropped"])
    assert {path.name for path in tmp_path.iterdir()} == {"report.md", "report.json", "figures", "bundle"}
    assert (tmp_path / "figures" / "training.png").is_file()
    assert json.loads((tmp_path / "report.json").read_text()) == json.loads(json.dumps(report.to_record()))
    assert load_bundle(tmp_path / "bundle").evaluation["main"] == FROZEN.name
    printed = capsys.readouterr().out.splitlines()
    assert printed[1] == "by_time: 1,000 queries, ranked among all 50 items; * answers in the bundle"
    assert printed[3].split() == [*f"{FROZEN.name} *".split(), "0.0500", "[0.0400,", "0.0600]"]
    assert printed[-2:] == [
        "adapted weights dropped",
        f"{tmp_path}: report.md, report.json, figures/, bundle/ (1.5 minutes)",
    ]


def test_a_run_without_training_writes_the_report_alone(
    report: Report, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finish(report, None, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"report.md", "report.json"}
    assert capsys.readouterr().out.endswith(f"{tmp_path}: report.md, report.json (1.5 minutes)\n")


def test_other_files_are_not_replaced_by_a_bundle(tmp_path: Path) -> None:
    check_output(tmp_path)
    (tmp_path / "bundle").mkdir()
    check_output(tmp_path)
    (tmp_path / "bundle" / "thesis.txt").write_text("mine")
    with pytest.raises(BundleError, match="bundle: exists and is not a bundle"):
        check_output(tmp_path)
