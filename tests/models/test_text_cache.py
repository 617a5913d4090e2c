"""A frozen backbone never reads the same text twice."""

from pathlib import Path

import pytest
import torch

from llmrec.config import BackboneConfig
from llmrec.models.backbone import Backbone
from llmrec.models.text_cache import TextCache


@pytest.fixture
def backbone(tiny_bert: Path) -> Backbone:
    return Backbone.load(BackboneConfig(name=str(tiny_bert)))


@pytest.fixture
def read(backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many texts each call of the backbone's encode was given."""
    calls: list[int] = []
    encode = backbone.encode

    def counted(tokens, describe=None):  # type: ignore[no-untyped-def]
        calls.append(len(tokens))
        return encode(tokens, describe)

    monkeypatch.setattr(backbone, "encode", counted)
    return calls


def test_only_new_texts_are_read(backbone: Backbone, read: list[int], tmp_path: Path) -> None:
    first = TextCache(backbone, tmp_path).vectors(["hats", "red shoes", "hats"])
    again = TextCache(backbone, tmp_path).vectors(["red shoes", "blue hats", "hats"])
    assert read == [2, 1]
    assert torch.equal(first[0], first[2])
    assert torch.equal(first[1], again[0])
    assert torch.equal(first[0], again[2])
    assert torch.equal(TextCache(backbone, tmp_path).vectors(["blue hats"]), again[1:2])
    assert read == [2, 1]


def test_other_weights_have_another_cache(backbone: Backbone, read: list[int], tmp_path: Path) -> None:
    before = TextCache(backbone, tmp_path).vectors(["hats"])
    with torch.no_grad():
        next(backbone.model.parameters()).mul_(1.5)
    assert not torch.allclose(TextCache(backbone, tmp_path).vectors(["hats"]), before)
    assert read == [1, 1]


def test_a_write_that_was_cut_off_is_ignored(backbone: Backbone, read: list[int], tmp_path: Path) -> None:
    cache = TextCache(backbone, tmp_path)
    cache.folder.mkdir(parents=True)
    (cache.folder / "abc.123.partial").write_bytes(b"half a shard")
    assert cache.vectors(["hats"]).shape == (1, backbone.dim)
