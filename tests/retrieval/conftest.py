"""A small recommender with heads drawn at random."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from llmrec.config import Strategy
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
