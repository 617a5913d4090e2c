"""A bundle's own check of its scores: it passes on every kernel and number of threads, and refuses other weights."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from llmrec.hub.bundle import Bundle, load_bundle, save_bundle
from llmrec.hub.bundle_record import read_record
from llmrec.hub.probe import ALLOWED, make_probe, score_difference
from llmrec.models.recommender_model import RecommenderModel

Make = Callable[..., Bundle]
HONEST = ALLOWED / 8  # moves by the last bit that other kernels may cause; the largest seen is below one
SETTINGS = {
    "MKL's own choice": {"MKL_CBWR": ""},
    "older instructions": {"MKL_CBWR": "COMPATIBLE", "ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41"},
    "AVX2 alone, two threads": {
        "MKL_CBWR": "",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "OMP_NUM_THREADS": "2",
    },
}
LOAD = """
import json, sys
from pathlib import Path
from llmrec.hub.bundle import load_bundle
from llmrec.hub.bundle_record import read_record
from llmrec.hub.probe import score_difference
folders = [Path(name) for name in sys.argv[1:]]
print(json.dumps([score_difference(load_bundle(folder).model, read_record(folder)["probe"]) for folder in folders]))
"""


def flatten_texts(model: RecommenderModel) -> None:
    """Make all texts nearly alike and undo that in the adaptor: item vectors then are small sums of large terms."""
    assert model.items.text is not None
    assert model.items.adaptor is not None
    weight, bias, text = model.items.adaptor.weight, model.items.adaptor.bias, model.items.text
    common = torch.nn.functional.normalize(torch.ones(text.shape[1]), dim=0)
    with torch.no_grad():
        text.copy_(common + 1e-3 * text)
        weight.mul_(1e3)
        bias.sub_(weight @ common)


@pytest.fixture
def bundles(make_bundle: Make, tmp_path: Path) -> dict[str, Path]:
    made = {name: make_bundle(name) for name in ("none", "frozen", "lora")}
    made["cosine"] = make_bundle("frozen", similarity="cosine")
    made["cancels"] = make_bundle("frozen")
    flatten_texts(made["cancels"].model)
    for name, bundle in made.items():
        save_bundle(tmp_path / name, bundle)
    return {name: tmp_path / name for name in made}


@pytest.mark.slow
@pytest.mark.parametrize("setting", SETTINGS)
def test_other_kernels_and_threads_give_the_recorded_scores(bundles: dict[str, Path], setting: str) -> None:
    command = [sys.executable, "-c", LOAD, *map(str, bundles.values())]
    environment = {**os.environ, **SETTINGS[setting]}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    differences = dict(zip(bundles, json.loads(done.stdout.splitlines()[-1]), strict=True))
    assert max(differences.values()) <= HONEST, differences


def shift(model: RecommenderModel, n_floats: int) -> None:
    """Move all weights to where they begin `n_floats` after a cache line."""
    for weight in (*model.parameters(), *model.buffers()):
        if weight.is_floating_point():
            room = torch.empty(weight.numel() + n_floats)
            weight.data = room[n_floats:].view_as(weight).copy_(weight.data)


@pytest.mark.parametrize("n_floats", [1, 2, 5])
def test_weights_at_other_addresses_give_the_recorded_scores(bundles: dict[str, Path], n_floats: int) -> None:
    for name, folder in bundles.items():
        model = load_bundle(folder).model
        shift(model, n_floats)
        assert score_difference(model, read_record(folder)["probe"]) <= HONEST, name


def test_measuring_leaves_the_model_as_it_was(make_bundle: Make) -> None:
    model = make_bundle("frozen").model
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    probe = make_probe(model)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert probe == make_probe(model)


def test_sums_that_cancel_are_known_to_move_further(make_bundle: Make) -> None:
    bundle = make_bundle("frozen")
    before = make_probe(bundle.model)["rounding"]
    flatten_texts(bundle.model)
    assert min(make_probe(bundle.model)["rounding"][1:]) > 20 * max(before[1:])


def alterations(model: RecommenderModel) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield the weights that every score depends on."""
    for name, weight in model.named_parameters():
        if name.startswith(("items.adaptor", "histories.norm", "histories.blocks.0.down.weight")):
            yield name, weight


@pytest.mark.parametrize("kind", ["none", "frozen", "lora"])
def test_half_a_percent_of_one_tensor_is_noticed(bundles: dict[str, Path], kind: str) -> None:
    model, probe = load_bundle(bundles[kind]).model, read_record(bundles[kind])["probe"]
    differences: dict[str, Any] = {}
    for name, weight in alterations(model):
        own = weight.detach().clone()
        with torch.no_grad():
            weight.mul_(1.005)
            if not torch.equal(weight, own):
                differences[name] = score_difference(model, probe)
            weight.copy_(own)
    assert len(differences) >= 2
    assert min(differences.values()) > ALLOWED, differences
