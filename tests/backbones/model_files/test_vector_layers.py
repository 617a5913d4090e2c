"""Layers after the pooling: what they compute, that they are saved as they were read, and what is refused."""

import json
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from llmrec.backbones.model_files.vector_layers import VectorLayers
from llmrec.backbones.model_files.vector_recipe import LayerSpec
from llmrec.errors import BackboneError
from tests.backbones.sentence_folders import dense

VECTORS = torch.linspace(-1, 1, 24).reshape(3, 8)


def write(folder: Path, *layers: tuple[str, dict[str, object], dict[str, torch.Tensor]]) -> list[LayerSpec]:
    specs = []
    for place, (kind, settings, state) in enumerate(layers, start=2):
        (folder / f"{place}_{kind}").mkdir(parents=True)
        if state:
            torch.save(state, folder / f"{place}_{kind}" / "pytorch_model.bin")
        specs.append(LayerSpec(kind, f"{place}_{kind}", settings))
    return specs


def test_layers_are_saved_as_they_were_read(tmp_path: Path) -> None:
    norm = {"norm.weight": torch.linspace(0.5, 2, 6), "norm.bias": torch.linspace(-1, 1, 6)}
    specs = write(tmp_path / "in", dense(8, 6), ("LayerNorm", {"dimension": 6}, norm), ("Normalize", {}, {}))
    layers = VectorLayers.load(tmp_path / "in", specs, 4)
    state = dict(specs[0].settings), torch.load(tmp_path / "in" / "2_Dense" / "pytorch_model.bin")
    made = torch.tanh(functional.linear(VECTORS, state[1]["linear.weight"], state[1]["linear.bias"]))
    made = functional.layer_norm(made, (6,), norm["norm.weight"], norm["norm.bias"])
    torch.testing.assert_close(layers(VECTORS), functional.normalize(made[:, :4], dim=-1))
    assert layers.get_width(8) == 4
    (tmp_path / "out").mkdir()
    written = layers.save(tmp_path / "out", 2)
    assert written == [("Dense", "2_Dense"), ("LayerNorm", "3_LayerNorm")]
    again = [
        LayerSpec(kind, path, json.loads((tmp_path / "out" / path / "config.json").read_text()))
        for kind, path in written
    ]
    reloaded = VectorLayers.load(tmp_path / "out", again, 4)
    assert torch.equal(reloaded(VECTORS), layers(VECTORS))
    assert reloaded.describe() == layers.describe() != ""


def test_vectors_are_cut_without_any_layer() -> None:
    layers = VectorLayers(n_dims=3)
    torch.testing.assert_close(layers(VECTORS), functional.normalize(VECTORS[:, :3], dim=-1))
    assert (layers.get_width(8), VectorLayers().get_width(8), VectorLayers().describe()) == (3, 8, "")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"activation_function": "os.system"},
            r"'os\.system' is not an activation of torch\. Copy its folder",
        ),
        ({"in_features": 5}, "cannot be loaded: .*size mismatch"),
        ({"module_input_name": "token_embeddings"}, "module_input_name is 'token_embeddings'"),
        ({"gate": True}, "setting 'gate' is not understood"),
    ],
)
def test_a_layer_that_is_not_understood_is_named(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    (spec,) = write(tmp_path, dense(8, 6))
    odd = LayerSpec(spec.kind, spec.path, {**spec.settings, **changes})
    with pytest.raises(BackboneError, match=rf"{tmp_path}: module Dense \(2_Dense\): .*{message}"):
        VectorLayers.load(tmp_path, [odd], None)


def test_a_layer_without_weights_is_named(tmp_path: Path) -> None:
    (spec,) = write(tmp_path, dense(8, 6))
    (tmp_path / "2_Dense" / "pytorch_model.bin").unlink()
    with pytest.raises(BackboneError, match=r"has neither model\.safetensors nor pytorch_model\.bin\. Copy its folder"):
        VectorLayers.load(tmp_path, [spec], None)
