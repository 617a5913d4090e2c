"""Transfer of a model's weights to a model of another domain, except those of single items."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from llmrec.errors import ConfigError
from llmrec.models.recommender_model import RecommenderModel

OF_SINGLE_ITEMS = frozenset({"items.ids.weight"})
FEATURES = "items.adaptor."  # maps text vectors to item vectors


@dataclass(frozen=True)
class TransferWeights:
    """Weights that a model of another domain can start from."""

    weights: Mapping[str, Tensor]
    """Weights on the CPU, by name."""
    fixed: bool = False
    """True if they stay fixed while the model is trained."""

    @classmethod
    def from_model(cls, model: RecommenderModel) -> TransferWeights:
        """Copy all weights that have the same meaning in any domain.

        Args:
            model: Trained model.

        Returns:
            The weights.
        """
        named = ((name, weight) for name, weight in model.named_parameters() if name not in OF_SINGLE_ITEMS)
        return cls({name: weight.detach().cpu().clone() for name, weight in named})

    def select_adaptor(self) -> TransferWeights:
        """Select the layer that maps text vectors to item vectors; it stays fixed in training.

        Returns:
            Weights of that layer.
        """
        return TransferWeights(
            {name: weight for name, weight in self.weights.items() if name.startswith(FEATURES)}, fixed=True
        )

    def fingerprint(self) -> str:
        """Return a digest of the weights and of whether they are fixed.

        Returns:
            32 hexadecimal digits.
        """
        digest = hashlib.sha256(str(self.fixed).encode())
        for name, weight in sorted(self.weights.items()):
            digest.update(name.encode() + weight.contiguous().numpy().tobytes())
        return digest.hexdigest()[:32]


@torch.no_grad()
def load_transfer_weights(model: RecommenderModel, knowledge: TransferWeights) -> None:
    """Replace weights of a model with those of another domain.

    Args:
        model: Model to change, in place.
        knowledge: Weights to load.

    Raises:
        ConfigError: If the models have different layers or widths.
    """
    own = dict(model.named_parameters())
    odd = [
        f"{name}: {tuple(weight.shape)} against {tuple(own[name].shape) if name in own else 'none'}"
        for name, weight in knowledge.weights.items()
        if name not in own or weight.shape != own[name].shape
    ]
    if odd:
        raise ConfigError(
            f"weights: the models differ in {'; '.join(odd[:4])}. Give both the same `model` and `backbone`."
        )
    for name, weight in knowledge.weights.items():
        own[name].copy_(weight)
        own[name].requires_grad_(not knowledge.fixed)
