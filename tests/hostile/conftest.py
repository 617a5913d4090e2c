"""What is counted of the hostile input: `pytest tests/hostile` ends with how many inputs were tried and handled."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from llmrec.config.jobs.finetune import FinetuneConfig
from llmrec.jobs.runner import run_job

ROOT = Path(__file__).resolve().parents[2]
INPUTS = "inputs"  # a test's property: how many it tried


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """A test that passes has handled all of its inputs; of one that fails none is counted."""
    done = [report for kind in ("passed", "failed") for report in terminalreporter.stats.get(kind, [])]
    tried = {report.nodeid: dict(report.user_properties).get(INPUTS, 0) for report in done if report.when == "call"}
    failed = {report.nodeid for report in terminalreporter.stats.get("failed", [])}
    if total := sum(tried.values()):
        lost = sum(count for test, count in tried.items() if test in failed)
        terminalreporter.write_line(f"hostile input: {total:,} inputs tried, {total - lost:,} handled")


@pytest.fixture
def count(record_property: Callable[[str, object], None]) -> Callable[[int], None]:
    """count(n): this test tries n inputs."""
    return lambda n: record_property(INPUTS, n)


@pytest.fixture
def seen() -> Callable[[Path], dict[str, str]]:
    """seen(folder): what lies in it, links as links, by name and content."""

    def look(folder: Path) -> dict[str, str]:
        return {
            str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
            if path.is_file() and not path.is_symlink()
            else "no file"
            for path in sorted(folder.rglob("*"))
        }

    return look


@pytest.fixture(scope="session")
def finetune() -> ModuleType:
    """recipes/finetune.py as a module."""
    spec = importlib.util.spec_from_file_location("hostile_finetune", ROOT / "recipes" / "finetune.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def recipe(finetune: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """recipe(*arguments): as `python recipes/finetune.py` with these."""

    def run(*arguments: str) -> None:
        monkeypatch.setattr("sys.argv", ["recipes/finetune.py", *arguments])
        run_job(finetune.run_finetune, FinetuneConfig)

    return run
