"""A run starts with settings within their bounds only, however they were made."""

from dataclasses import replace
from pathlib import Path

import pytest

from llmrec.config.data import DataConfig
from llmrec.config.jobs.finetune import FinetuneConfig
from llmrec.config.train import TrainConfig
from llmrec.errors import ConfigError
from llmrec.runs.start import start_run


def test_settings_made_in_python_are_checked_before_anything_is_written(tmp_path: Path) -> None:
    config = FinetuneConfig(DataConfig("log"), output=tmp_path / "run")
    with pytest.raises(ConfigError, match=r"train\.epochs=-1: give a number at least 0"):
        start_run(replace(config, train=TrainConfig(epochs=-1)))
    with pytest.raises(ConfigError, match=r"train\.learning_rate=nan"):
        start_run(replace(config, train=TrainConfig(learning_rate=float("nan"))))
    assert not (tmp_path / "run").exists()
