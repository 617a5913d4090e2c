"""What is pushed comes back to the bit, whole or not at all; who may not see it, or has changed it, is told so."""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from llmrec.config import DataConfig, DriftConfig, Strategy
from llmrec.errors import BundleError
from llmrec.hub.bundle import Bundle, load_backbone, load_bundle, save_bundle
from llmrec.hub.drift import FittedDrift
from llmrec.hub.layout import LAYOUT, digests
from llmrec.hub.share import bundle_folder, shareable
from llmrec.models.drift.head import DriftHead
from llmrec.models.drift.latent import LatentChain
from llmrec.models.drift.neighbours import text_vectors
from llmrec.recommender import Recommender

Make = Callable[..., Bundle]
TEXT = "a robot of the river"


def beside(name: str) -> ModuleType:
    """A module of this folder, which is no package."""
    import sys

    spec = spec_from_file_location(f"hub_{name}", Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


LOOPBACK, VISITOR = beside("loopback"), beside("visitor")


@pytest.fixture(scope="module")
def hub() -> Iterator[Any]:
    with LOOPBACK.loopback() as running:
        yield running


@pytest.fixture(scope="module")
def visit(hub: Any, tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Any]]:
    """A process with the token of `owner`, and the base model on the hub."""
    visitor = VISITOR.Visitor(hub.url, tmp_path_factory.mktemp("home"), "hf_owner")
    visitor("push_encoder", str(tiny_bert), "owner/tiny")
    yield visitor
    visitor.close()


@pytest.fixture(autouse=True)
def mended(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "hub" in request.fixturenames:
        request.getfixturevalue("hub").broken = lambda method, path: None


def here(folder: Path, backbone: Path) -> dict[str, Any]:
    """What VISITOR.answers gives, in this process."""
    found: dict[str, Any] = VISITOR.answers(str(folder), TEXT, backbone=str(backbone))
    return found


@pytest.mark.parametrize("strategy", ["none", "frozen", "lora", "full"])
def test_what_comes_back_answers_to_the_bit(
    make_bundle: Make, visit: Callable[..., Any], hub: Any, tiny_bert: Path, tmp_path: Path, strategy: Strategy
) -> None:
    save_bundle(tmp_path / "bundle", make_bundle(strategy))
    repo = f"owner/{strategy}"
    address = visit("push", tmp_path / "bundle", repo, backbone=tiny_bert)
    assert address == f"{hub.url}/{repo}/commit/{hub.repos[repo].branches['main']}"
    assert hub.repos[repo].log("main") == ["A recommender, by llmrec", "initial commit"]
    text = None if strategy == "none" else TEXT
    there = visit("answers", repo, text)  # the base comes from the hub as well
    assert not there["folder"].startswith(str(tmp_path))
    before = VISITOR.answers(str(tmp_path / "bundle"), text, backbone=str(tiny_bert))
    assert there == before | {"folder": there["folder"]}
    assert set(hub.repos[repo].commits[hub.repos[repo].branches["main"]].tree) == {
        ".gitattributes", *(path.name for path in (tmp_path / "bundle").iterdir())
    }  # fmt: skip


def test_the_adapter_alone_is_peft_s(
    make_bundle: Make, visit: Callable[..., Any], tiny_bert: Path, tmp_path: Path
) -> None:
    saved = make_bundle("lora")
    save_bundle(tmp_path / "bundle", saved)
    visit("push", tmp_path / "bundle", "owner/adapter", backbone=tiny_bert)
    vectors = torch.tensor(visit("adapter_alone", "owner/adapter", ["new red shoes", TEXT]))
    assert saved.tuned is not None
    torch.testing.assert_close(vectors, saved.tuned.encode(saved.tuned.tokens(["new red shoes", TEXT])))
