"""A small recommender with heads drawn at random, and the planted log of its items."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from llmrec.config import Strategy
from llmrec.data.log import Log
from llmrec.data.synthetic import planted_world
from llmrec.hub.bundle import Bundle, save_bundle
from llmrec.recommender import Recommender

Load = Callable[..., Recommender]


@pytest.fixture
def load(make_bundle: Callable[[Strategy], Bundle], tmp_path: Path, tiny_bert: Path) -> Load:
    """load(strategy, name): a recommender of the bundle `name`, which is written first."""

    def loaded(strategy: Strategy = "frozen", name: str = "bundle") -> Recommender:
        save_bundle(tmp_path / name, make_bundle(strategy))
        return Recommender.from_pretrained(tmp_path / name, backbone=str(tiny_bert))

    return loaded


@pytest.fixture
def recommender(load: Load) -> Recommender:
    return load()


@pytest.fixture
def log() -> Log:
    """The planted log of `make_bundle`."""
    return planted_world(n_users=30, n_items=40, events_per_user=6)[0]
