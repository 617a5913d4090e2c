"""Checkpoints are known by the names of their files, of a folder and of a repository alike."""

import json
from pathlib import Path

import pytest

from llmrec.backbones.model_files.checkpoint_files import CheckpointFiles
from llmrec.backbones.model_files.checkpoint_formats import check_format, get_quantization
from llmrec.errors import BackboneError

WHOLE = {"config.json", "tokenizer.json", "model.safetensors"}


def check(folder: Path, names: set[str], *, subfolder: str = "", complete: bool = True) -> None:
    check_format("me/model", CheckpointFiles(folder, frozenset(names), complete), subfolder)


def test_a_whole_checkpoint_is_let_through(tmp_path: Path) -> None:
    check(tmp_path, WHOLE)
    check(tmp_path, {f"0_Transformer/{name}" for name in WHOLE}, subfolder="0_Transformer")
    check(tmp_path, WHOLE | {"onnx/model.onnx", "pytorch_model.bin", "optimizer.pt"})
    check(tmp_path, {"config.json"}, complete=False)  # the cache of the Hub may lack the rest


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        ({"llmrec.json"}, "a bundle of llmrec.*Run llmrec export me/model --output FOLDER"),
        ({"model_index.json"}, "a pipeline of diffusers"),
        (WHOLE - {"config.json"}, "has no config.json"),
        (WHOLE - {"config.json"} | {"a/config.json", "b/config.json"}, "Give one of its folders a, b"),
        (WHOLE - {"tokenizer.json"}, "has no tokenizer"),
        (WHOLE - {"model.safetensors"} | {"onnx/model.onnx"}, r"format of ONNX \(onnx/model.onnx\)"),
        (WHOLE - {"model.safetensors"} | {"tf_model.h5", "pytorch_model.bin"}, "pickled.*AutoModel.from_pretrained"),
    ],
)
def test_what_is_no_model_comes_with_its_own_remedy(tmp_path: Path, names: set[str], problem: str) -> None:
    with pytest.raises(BackboneError, match=problem):
        check(tmp_path, names)


def test_quantization_is_read_from_the_config(tmp_path: Path) -> None:
    files = CheckpointFiles(tmp_path, frozenset({"config.json"}))
    assert get_quantization(files, "") is None
    (tmp_path / "config.json").write_text(json.dumps({"quantization_config": {"quant_method": "awq"}}))
    assert get_quantization(files, "") == "awq"
