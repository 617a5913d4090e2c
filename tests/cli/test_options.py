"""Every command that prints a result prints JSON too, and every bundle may be a revision of a repository."""

from __future__ import annotations

from typing import Any

import pytest
from typer.main import get_command

from llmrec.cli.main import build_app

COMMANDS: dict[str, Any] = dict(get_command(build_app()).commands)  # type: ignore[attr-defined]
ENDLESS = {"serve", "demo"}  # they answer until they are stopped
OF_FOLDERS = {"push"}  # its bundle is in a folder; --revision is the branch that it is pushed to
BUNDLES = [
    pytest.param(COMMANDS[name], parameter.name, id=f"{name} {parameter.name}")
    for name, command in COMMANDS.items()
    for parameter in command.params
    if parameter.metavar == "BUNDLE" and name not in OF_FOLDERS
]


def list_flags(command: Any) -> set[str]:
    return {flag for parameter in command.params for flag in parameter.opts}


@pytest.mark.parametrize("name", COMMANDS)
def test_results_come_as_json(name: str) -> None:
    assert ("--json" in list_flags(COMMANDS[name])) == (name not in ENDLESS)


@pytest.mark.parametrize(("command", "parameter"), BUNDLES)
def test_a_bundle_has_revisions(command: Any, parameter: str) -> None:
    flag = "--revision" if parameter == "bundle" else f"--{parameter.replace('_', '-')}-revision"
    assert flag in list_flags(command)


def test_bundles_are_found() -> None:
    assert len(BUNDLES) >= 15
