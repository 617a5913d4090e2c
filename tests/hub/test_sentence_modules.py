"""A backbone's pooling and layers, written and read again: the same vectors."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from llmrec.backbones.text_backbone import TextBackbone
from llmrec.config.backbone import BackboneConfig
from llmrec.hub.sentence_modules import save_modules, save_pooling
from tests.backbones.sentence_folders import dense, write_folder

TEXTS = ["robot love drama", "a night in the garden of war", "Space"]


def load(folder: Path, **changes: object) -> TextBackbone:
    return TextBackbone.load(BackboneConfig(name=str(folder), **changes))


@pytest.mark.parametrize(("modes", "n_dims"), [(["cls"], None), (["mean", "max"], 5), (["weightedmean"], 3)])
@pytest.mark.parametrize("with_layers", [False, True])
def test_a_backbone_is_read_as_it_was_written(
    tiny_bert: Path, tmp_path: Path, modes: list[str], n_dims: int | None, *, with_layers: bool
) -> None:
    layers = [dense(32 * len(modes), 16), dense(16, 8)] if with_layers else []
    prompts = {"query": "film: ", "document": "text: "}
    settings = {"prompts": prompts, "default_prompt_name": "query", "truncate_dim": n_dims}
    settings["transformer"] = {"max_seq_length": 7}
    first = load(write_folder(tiny_bert, tmp_path / "in", "5", modes, layers, **settings))
    shutil.copytree(tiny_bert, tmp_path / "out")
    save_pooling(tmp_path / "out", first)
    save_modules(tmp_path / "out", first, prompts, "film: ", max_tokens=7)
    again = load(tmp_path / "out")
    assert again.recipe.max_tokens == 7
    assert (again.prompt, again.dim) == (first.prompt, first.dim)
    torch.testing.assert_close(*(one.encode(one.tokenize(TEXTS)) for one in (again, first)), rtol=0, atol=1e-6)


def test_a_pooling_that_no_file_can_state_is_not_written(tiny_llama: Path, tmp_path: Path) -> None:
    save_pooling(tmp_path, load(tiny_llama, pooling="echo"))
    assert not list(tmp_path.iterdir())
    save_pooling(tmp_path, load(tiny_llama, pooling="last"))
    flags = json.loads((tmp_path / "1_Pooling" / "config.json").read_text())
    assert [flag for flag, on in flags.items() if on is True] == ["pooling_mode_lasttoken"]
