"""A run's folder tells what the run was: settings to repeat it, environment without secrets, seeds, phases, its end."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from accelerate import Accelerator

from llmrec.config.backbone import BackboneConfig
from llmrec.config.data import DataConfig
from llmrec.config.drift import DriftConfig
from llmrec.config.jobs.finetune import FinetuneConfig
from llmrec.config.loader import parse_config
from llmrec.config.train import TrainConfig
from llmrec.errors import ConfigError, RunInterruptedError
from llmrec.jobs.runner import run_job
from llmrec.runs.provenance import collect_provenance
from llmrec.runs.run_record import close_record, collect_environment, open_record
from llmrec.utils.timing import timer

logger = logging.getLogger("llmrec.of.a.test")


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    close_record()


@pytest.fixture
def config(tmp_path: Path) -> FinetuneConfig:
    train = TrainConfig(learning_rate=2e-5, weight_decay=1e-7, refresh_every_steps=3)
    return FinetuneConfig(
        DataConfig(source="é, a: 'log'"),
        tmp_path / "run",
        backbone=BackboneConfig(strategy="lora"),
        train=train,
        adapt=train,
        drift=DriftConfig(half_lives_days=(1.5, 30.0)),
        seeds=(3, 4),
    )


def opened(config: FinetuneConfig) -> None:
    accelerator = Accelerator(cpu=True)
    open_record(config, accelerator, collect_provenance(accelerator))


def record(config: FinetuneConfig) -> dict[str, object]:
    found: dict[str, object] = json.loads((config.output / "run.json").read_text())
    return found


def test_settings_are_kept_as_they_can_be_read_again(config: FinetuneConfig) -> None:
    opened(config)
    assert parse_config(FinetuneConfig, ["--config", str(config.output / "config.yaml")]) == config


def test_the_record_is_up_to_date_at_any_time(config: FinetuneConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMREC_CACHE", "somewhere")
    monkeypatch.setenv("LLMREC_API_KEY", "hidden")
    monkeypatch.setenv("LLMREC_PSEUDONYMS", "hidden")
    monkeypatch.setenv("HF_TOKEN", "hidden")
    opened(config)
    assert {"command", "commit", "machine", "processes", "precision", "versions"} <= record(config).keys()
    assert record(config)["seeds"] == {"seeds": [3, 4], "leave_one_out_seeds": None}
    assert record(config)["status"] == "running"
    kept = record(config)["environment"]
    assert kept == collect_environment()
    assert isinstance(kept, dict)
    assert kept["LLMREC_CACHE"] == "somewhere"
    assert "TOKENIZERS_PARALLELISM" in kept
    assert "hidden" not in (config.output / "run.json").read_text()

    logger.info("read", extra={"run": {"data": {"first": {"n_events": 3}}}})
    logger.info("read", extra={"run": {"data": {"second": {"n_events": 4}}}})
    for _ in range(2):
        with timer.section("fit"), timer.section("checkpoint"):
            pass
    assert record(config)["data"] == {"first": {"n_events": 3}, "second": {"n_events": 4}}
    assert list(record(config)["seconds"]) == ["fit/checkpoint", "fit"]  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (None, "finished", 0),
        (ConfigError("k=0: give 1"), "failed: k=0: give 1", 2),
        (RunInterruptedError("stopped after step 3"), "interrupted", 143),
        (KeyError("x"), "failed: KeyError: 'x'", 1),
    ],
)
def test_how_a_recipe_ends_is_told_and_kept(
    config: FinetuneConfig,
    error: Exception | None,
    status: str,
    code: int,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def main(given: FinetuneConfig) -> None:
        opened(replace(given, output=config.output))
        logger.info("at work")
        if error is not None:
            raise error

    monkeypatch.setattr("sys.argv", ["finetune.py", "--data.source", "x", "--verbose"])
    if code == 0:
        run_job(main, FinetuneConfig)
    else:
        with pytest.raises(SystemExit) as ended:
            run_job(main, FinetuneConfig)
        assert ended.value.code == code
    assert record(config)["status"] == status
    assert record(config)["ended"] is not None
    err = capsys.readouterr().err
    assert "INFO llmrec.of.a.test: at work" in err  # --verbose
    assert (f"finetune.py: {error}" in err) == (code in (2, 143))
    last = json.loads((config.output / "log.jsonl").read_text().splitlines()[-1])
    assert last["status"] == status
    assert ("traceback" in last) == (code == 1)


def test_a_run_that_is_refused_leaves_the_record_of_the_one_before(config: FinetuneConfig) -> None:
    opened(config)
    with timer.section("fit"):
        pass
    close_record()
    before = [(config.output / name).read_text() for name in ("run.json", "config.yaml")]
    other = replace(config, seeds=(5,))

    opened(other)
    with timer.section("load"):
        pass
    with pytest.raises(ConfigError), timer.section("encode"):
        raise ConfigError("no such backbone")
    logger.error("no such backbone", extra={"run": {"status": "failed: no such backbone"}})
    close_record()
    assert [(config.output / name).read_text() for name in ("run.json", "config.yaml")] == before
    assert "no such backbone" in (config.output / "log.jsonl").read_text()

    opened(other)
    for name in ("load", "encode"):
        with timer.section(name):
            pass
    assert list(record(config)["seconds"]) == ["load", "encode"]  # type: ignore[call-overload]
    assert record(config)["seeds"] == {"seeds": [5], "leave_one_out_seeds": None}
    assert parse_config(FinetuneConfig, ["--config", str(config.output / "config.yaml")]) == other


def test_a_new_run_closes_what_the_one_before_opened(config: FinetuneConfig, tmp_path: Path) -> None:
    opened(config)
    opened(replace(config, output=tmp_path / "second"))
    logger.info("of the second")
    assert "of the second" in (tmp_path / "second" / "log.jsonl").read_text()
    assert "of the second" not in (config.output / "log.jsonl").read_text()
