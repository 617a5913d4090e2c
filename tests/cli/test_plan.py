"""`llmrec plan`: limits in words, a plan and its comparison with a run, mistakes in one message."""

import json
from pathlib import Path

import pytest
import yaml

from llmrec.cli.main import main
from llmrec.cli.plan_inputs import parse_memory_gib, parse_strategy
from llmrec.errors import ConfigError
from llmrec.evaluation.metric_rows import MetricRow
from llmrec.evaluation.model_rows import FROZEN
from llmrec.evaluation.results import Protocol, Report, SplitReport
from llmrec.evaluation.run_metadata import RunMetadata


@pytest.mark.parametrize(
    ("memory", "gib"), [("24GiB", 24), ("1073.741824 MB", 1), ("0.5TiB", 512), ("2gb", 2e9 / 2**30)]
)
def test_memory_in_words(memory: str, gib: float) -> None:
    assert parse_memory_gib(memory) == pytest.approx(gib)


@pytest.mark.parametrize("memory", ["24", "lots", "-3GB", "GB", "3 GB more"])
def test_memory_that_is_none_is_refused(memory: str) -> None:
    with pytest.raises(ConfigError, match="24GB, 24GiB"):
        parse_memory_gib(memory)


def test_strategies_by_name() -> None:
    assert parse_strategy("last_k") == "last_k"
    with pytest.raises(ConfigError, match="'none': give one of frozen"):
        parse_strategy("none")


@pytest.fixture
def recipe(log_folder: str, tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LLMREC_CACHE", str(tmp_path / "cache"))
    settings = {
        "data": {"interactions": "elsewhere"},
        "backbone": {"name": str(tiny_bert)},
        "model": {"dim": 8},
        "train": {"epochs": 2, "batch_targets": 16},
        "evaluation": {"baselines": ["popularity"]},
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(settings))
    return tmp_path / "recipe.yaml"


def test_a_plan_from_the_command_line_and_a_run_beside_it(
    recipe: Path, log_folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = [
        "plan",
        "--config",
        str(recipe),
        "--data.source",
        log_folder,
        "--strategy",
        "frozen",
        "--measured-steps",
        "1",
    ]
    main([*asked, "--max-memory", "64GB", "--max-hours", "1", "--output", str(tmp_path / "plan.json")])
    out = capsys.readouterr().out
    assert "recommended: frozen" in out
    assert "30 users" in out
    phases = [
        {"phase": name, "of": of, "wall": 2.0, "cpu": 1.0, "peak_mib": 512}
        for name, of in (("read", None), ("fit", "llmrec (frozen backbone)"), ("all", None))
    ]
    row = MetricRow(FROZEN, "by_time", "overall", "ndcg@10", 0.1, None, None, 9)
    part = SplitReport("by_time", FROZEN, Protocol(9, "strict", "known", mask_seen=True), (row,), ())
    report = Report((part,), "ndcg@10", 1000, RunMetadata(machine="a CPU, no GPU", phases=phases))
    (tmp_path / "report.json").write_text(json.dumps(report.to_record()))
    main([*asked, "--plan", str(tmp_path / "plan.json"), "--report", str(tmp_path / "report.json")])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["unit", "predicted", "happened", "ratio"]
    assert [line.split()[0] for line in lines[1:]] == ["read", "fit", "sum", "everything", "peak"]
    (peak,) = (option["peak_gib"] for option in json.loads((tmp_path / "plan.json").read_text())["options"])
    assert lines[-1].split()[-3:] == [f"{peak:.2f}", "0.50", f"{peak / 0.5:.2f}"]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["--max-memory", "much"], "memory='much'"),
        (["--strategy", "none"], "strategy 'none'"),
        (["--measured-steps", "0"], "steps=0"),
        (["--plan", "nowhere.json"], "nowhere.json"),
        (["--report", "nowhere.json"], "nowhere.json"),
        (["--config", "nowhere.yaml"], "nowhere.yaml"),
    ],
)
def test_mistakes_end_in_one_message(
    recipe: Path, given: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["plan", "--config", str(recipe), *given])
    assert stopped.value.code == 2
    assert told in capsys.readouterr().err
