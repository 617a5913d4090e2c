"""A hub on loopback, with a process that speaks to it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


def beside(name: str) -> ModuleType:
    """A module of this folder, which is no package."""
    spec = spec_from_file_location(f"hub_{name}", Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def running_hub() -> Iterator[Any]:
    with beside("loopback").loopback() as hub:
        yield hub


@pytest.fixture(scope="session")
def visitor(running_hub: Any, tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A process with the token of `owner`, after it has put the base model on the hub."""
    process = beside("visitor").Visitor(running_hub.url, tmp_path_factory.mktemp("home"), "hf_owner")
    process("push_encoder", str(tiny_bert), "owner/tiny")
    yield process
    process.close()


@pytest.fixture
def hub(running_hub: Any) -> Iterator[Any]:
    """The hub, mended after the test."""
    yield running_hub
    running_hub.broken = lambda method, path: None


@pytest.fixture
def visit(hub: Any, visitor: Any) -> Any:
    return visitor
