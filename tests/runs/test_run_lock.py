"""One run at a time writes to a folder; a message names the one that does, and a killed one leaves it free."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from accelerate import Accelerator

from llmrec.errors import ConfigError
from llmrec.runs.run_lock import lock_folder
from llmrec.utils.folder_lock import HOLDER, unlock

OTHER = """
import sys
from pathlib import Path
from accelerate import Accelerator
from llmrec.runs.run_lock import lock_folder
lock_folder(Path(sys.argv[1]), Accelerator())
print("locked", flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def unlocked() -> Iterator[None]:
    yield
    unlock()


@pytest.mark.slow
def test_another_run_is_named_until_it_ends_or_is_killed(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with subprocess.Popen(
        [sys.executable, "-c", OTHER, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "locked\n"
        before = (folder / HOLDER).read_text()
        with pytest.raises(ConfigError, match=rf"process {other.pid} on .* since 20.* Wait until it ends"):
            lock_folder(folder, Accelerator())
        assert (folder / HOLDER).read_text() == before
        other.send_signal(signal.SIGKILL)
    lock_folder(folder, Accelerator())  # what the killed one left is no lock
    assert json.loads((folder / HOLDER).read_text())["pid"] == os.getpid()


def test_a_process_frees_its_folder_for_its_next_run(tmp_path: Path) -> None:
    for _ in range(2):
        lock_folder(tmp_path, Accelerator())
    unlock()
    assert not list(tmp_path.iterdir())
