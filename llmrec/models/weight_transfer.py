"""What a model of one domain can take over from a model of another: its weights, but for those of single items."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from llmrec.errors import ConfigError
from llmrec.models.recommender_model import RecommenderModel

OF_SINGLE_ITEMS = frozenset({"items.ids.weight"})
FEATURES = "items.adaptor."  # from the backbone's vectors to the recommender's


@dataclass(frozen=True)
class TransferWeights:
    """weights: (CPU) by name. fixed: they stay as they are while the model that takes them over is trained."""

    weights: Mapping[str, Tensor]
    fixed: bool = False

    @classmethod
    def from_model(cls, model: RecommenderModel) -> TransferWeights:
        """Everything that means the same in any domain."""
        named = ((name, weight) for name, weight in model.named_parameters() if name not in OF_SINGLE_ITEMS)
        return cls({name: weight.detach().cpu().clone() for name, weight in named})

    def select_adaptor(self) -> TransferWeights:
        """How text becomes an item vector, and no more; fixed."""
        return TransferWeights(
            {name: weight for name, weight in self.weights.items() if name.startswith(FEATURES)}, True
        )

    def fingerprint(self) -> str:
        digest = hashlib.sha256(str(self.fixed).encode())
        for name, weight in sorted(self.weights.items()):
            digest.update(name.encode() + weight.contiguous().numpy().tobytes())
        return digest.hexdigest()[:32]


@torch.no_grad()
def load_transfer_weights(model: RecommenderModel, knowledge: TransferWeights) -> None:
    """Let `model` begin with these weights instead of its own.

    Raises:
        ConfigError: they are of a model with other layers or widths.
    """
    own = dict(model.named_parameters())
    odd = [
        f"{name}: {tuple(weight.shape)} against {tuple(own[name].shape) if name in own else 'none'}"
        for name, weight in knowledge.weights.items()
        if name not in own or weight.shape != own[name].shape
    ]
    if odd:
        raise ConfigError(f"the models differ in {'; '.join(odd[:4])}; give both the same `model` and `backbone`")
    for name, weight in knowledge.weights.items():
        own[name].copy_(weight)
        own[name].requires_grad_(not knowledge.fixed)
