"""Several processes by accelerate's launcher, from `llmrec --processes`: their number and exit status."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from llmrec.engines.launcher import EXPECTED_PROCESSES, check_process_count
from llmrec.errors import ConfigError


def test_another_number_of_processes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    check_process_count()
    monkeypatch.setenv(EXPECTED_PROCESSES, "2")
    with pytest.raises(ConfigError, match=r"--processes 2: the launcher started 1\."):
        check_process_count()
    monkeypatch.setenv("WORLD_SIZE", "2")
    check_process_count()


@pytest.mark.slow
def test_two_processes_share_a_catalog(log_folder: str, tiny_bert: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "llmrec", "encode-catalog", "--processes", "2"]
    settings = ["--data.source", log_folder, "--backbone.name", str(tiny_bert)]
    environment = os.environ | {"LLMREC_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(
        [*command, *settings], capture_output=True, text=True, env=environment, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "40 items with 40 texts: 40 read by 2 process(es)" in done.stdout
    wrong = subprocess.run(
        [*command, "--epochs", "3"], capture_output=True, text=True, env=environment, timeout=300, check=False
    )
    assert wrong.returncode == 2
    assert wrong.stderr.count("no such setting") == 1  # before processes start
