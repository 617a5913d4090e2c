"""Processes that were requested and do not meet are refused, each with what it was told."""

import os
import subprocess
import sys

import pytest

from llmrec.engines.accelerator import ADDRESS, COUNTS, open_accelerator
from llmrec.errors import ConfigError


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*COUNTS, ADDRESS, "ACCELERATE_USE_CPU"):
        monkeypatch.delenv(name, raising=False)


def test_one_process_is_open_and_others_that_do_not_meet_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert open_accelerator().num_processes == 1
    for name, value in ((COUNTS[1], "3"), (ADDRESS, "127.0.0.1")):
        monkeypatch.setenv(name, value)
        with pytest.raises(ConfigError, match=rf"{name}={value}.*ACCELERATE_USE_CPU"):
            open_accelerator()
        monkeypatch.delenv(name)


@pytest.mark.slow
def test_processes_that_cannot_meet_are_one_message() -> None:
    code = "from llmrec.engines.accelerator import open_accelerator; open_accelerator()"
    told = os.environ | {"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0", "ACCELERATE_USE_CPU": "true"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=told, timeout=300, check=False
    )
    assert "ConfigError: processes: 2 were requested and cannot work together" in done.stderr
