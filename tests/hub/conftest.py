"""Bundles with a drift head; and a hub on loopback, with a process that speaks to it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from llmrec.hub.bundle import Bundle


@pytest.fixture
def with_drift() -> Callable[[Bundle], Bundle]:
    """with_drift(bundle): a head drawn at random, on a chain over the vectors of the untrained backbone, if any."""
    import torch

    from llmrec.config import DriftConfig
    from llmrec.hub.drift import FittedDrift
    from llmrec.models.backbone import Backbone
    from llmrec.models.drift.head import DriftHead
    from llmrec.models.drift.latent import LatentChain
    from llmrec.models.drift.neighbours import text_vectors

    def make(bundle: Bundle) -> Bundle:
        text, chain, settings = None, None, DriftConfig(n_states=4)
        if bundle.base is None:
            settings = DriftConfig(terms=("interest", "transitions", "gate"))
        config = replace(bundle.config, drift=settings)
        if bundle.base is not None:
            untrained = Backbone.load(config.backbone)
            text = untrained.encode(untrained.tokens(bundle.catalog.texts()))
            chain = LatentChain(text_vectors(text)[:4])
        head = DriftHead(settings, chain).requires_grad_(False)
        for weight in head.parameters():
            weight.add_(torch.randn_like(weight))
        centre = None if text is None else text.mean(0)
        return replace(bundle, config=config, drift=FittedDrift(head, 30.0, text, centre))

    return make


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
