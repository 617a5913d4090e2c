"""What scripts/check runs: style, format and types of the whole tree."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.slow
@pytest.mark.parametrize("command", ["ruff check .", "ruff format --check .", "mypy --strict"])
def test_check(command: str) -> None:
    tool, *arguments = command.split()
    if find_spec(tool) is None:
        pytest.skip(f"needs {tool} (extra: dev)")
    run = subprocess.run([sys.executable, "-m", tool, *arguments], capture_output=True, text=True, cwd=ROOT)
    assert run.returncode == 0, f"{run.stdout}{run.stderr}\nscripts/check --fix mends some of it"
