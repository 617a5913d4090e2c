"""The checks of scripts/check: style, format, types, layers, spelling, unsafe code, and advisories."""

from __future__ import annotations

import runpy
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
BANDIT = "bandit --quiet --recursive --configfile pyproject.toml llmrec recipes"
SPELLING = "codespell_lib --builtin clear,rare,en-GB_to_en-US README.md docs"
WORDS = "codespell_lib --dictionary .codespell/house.txt --regex [A-Za-z]+ README.md docs"
COMMANDS = ["ruff check .", "ruff format --check .", "mypy --strict", BANDIT, SPELLING, WORDS]


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_check(command: str) -> None:
    tool, *arguments = command.split()
    if find_spec(tool) is None:
        pytest.skip(f"needs {tool} (extra: dev)")
    run = subprocess.run([sys.executable, "-m", tool, *arguments], capture_output=True, text=True, cwd=ROOT)
    assert run.returncode == 0, f"{run.stdout}{run.stderr}\nscripts/check --fix fixes some of it"


@pytest.mark.slow
def test_the_layers_of_the_package_hold() -> None:
    pytest.importorskip("importlinter", reason="needs import-linter (extra: dev)")
    command = [Path(sys.executable).with_name("lint-imports"), "--no-cache"]
    run = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert run.returncode == 0, f"{run.stdout}{run.stderr}"


def test_an_advisory_fails_and_what_is_unknown_is_counted() -> None:
    lines = runpy.run_path(str(ROOT / "scripts" / "advisories.py"))["lines"]
    bad = {"name": "a", "version": "1.0", "vulns": [{"id": "PYSEC-1", "fix_versions": ["1.1"]}]}
    good, unknown = {"name": "b", "version": "2", "vulns": []}, {"name": "c", "skip_reason": "not found"}
    assert lines([bad, good]) == (
        ["pip-audit: a 1.0: PYSEC-1, mended in 1.1", "pip-audit: 2 of 2 pinned packages looked up, 1 advisories"],
        True,
    )
    told, failed = lines([good, unknown])
    assert told[-1].startswith("pip-audit: 1 of 2 pinned packages looked up, 0 advisories; the others could not")
    assert failed is False
