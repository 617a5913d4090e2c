"""Models without weights have the shapes of those with weights."""

from __future__ import annotations

import subprocess
import sys

import torch

from llmrec.config.model import ModelConfig
from llmrec.models.recommender_model import RecommenderModel
from llmrec.utils.meta_device import build_on_meta

LOAD = """
import sys, torch
from llmrec.config.model import ModelConfig
from llmrec.models.recommender_model import RecommenderModel
from llmrec.utils.meta_device import build_on_meta
with build_on_meta():
    RecommenderModel(ModelConfig(adaptor_start="random"), torch.ones(9, dtype=torch.bool), torch.empty(9, 16))
sys.exit("torch._dynamo" in sys.modules)
"""


def test_shapes_are_those_of_the_model() -> None:
    config, known, text = (
        ModelConfig(adaptor_start="random", dim=8, n_heads=2),
        torch.ones(9, dtype=torch.bool),
        torch.ones(9, 16),
    )
    with build_on_meta():
        sketch = RecommenderModel(config, known.to("meta"), text.to("meta")).state_dict()
    model = RecommenderModel(config, known, text).state_dict()
    assert {name: weight.shape for name, weight in sketch.items()} == {
        name: weight.shape for name, weight in model.items()
    }
    assert all(weight.is_meta for weight in sketch.values())


def test_the_compiler_is_not_imported() -> None:
    assert subprocess.run([sys.executable, "-c", LOAD], check=False).returncode == 0
