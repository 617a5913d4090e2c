"""Pooling of the states of a text's tokens into one vector."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from llmrec.backbones.model_files.vector_recipe import VectorRecipe
from llmrec.config.backbone import BackboneConfig
from llmrec.errors import BackboneError

ROUNDING = 1e-5  # relative; the same row of a product may be rounded differently in another position


def pool(hidden: Tensor, attention_mask: Tensor | None, pooling: str) -> Tensor:
    """Pool hidden states into text vectors.

    Args:
        hidden: Hidden states, (U, L, D), padded on the right.
        attention_mask: Mask, (U, L); None if there is no padding.
        pooling: Rule, or several joined by +, whose vectors are concatenated.

    Returns:
        Text vectors, (U, D times the number of rules).
    """
    weight = None if attention_mask is None else attention_mask[..., None].to(hidden.dtype)
    return torch.cat([_RULES[name](hidden, weight) for name in pooling.split("+")], dim=-1)


@torch.no_grad()
def is_causal(model: nn.Module) -> bool:
    """Return whether a model only looks back.

    In a causal model a later token leaves an earlier state unchanged but for rounding.

    Args:
        model: Model of transformers.

    Returns:
        True for a causal model.
    """
    ids = torch.tensor([[1, 2, 3], [1, 2, 4]], device=next(model.parameters()).device)
    hidden = model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
    return bool((hidden[0, 0] - hidden[1, 0]).norm() <= ROUNDING * hidden[0, 0].norm())


def choose_pooling(config: BackboneConfig, recipe: VectorRecipe, *, causal: bool) -> str:
    """Choose the pooling of a backbone: as configured, else as its checkpoint says, else by its kind.

    Args:
        config: Settings of the backbone.
        recipe: Statements of the checkpoint.
        causal: Whether it is a decoder.

    Returns:
        The rule, or several joined by +.

    Raises:
        BackboneError: If an encoder is to read echoes.
    """
    if config.pooling == "echo" and not causal:
        raise BackboneError(
            f"backbone.pooling=echo: {config.name!r} is an encoder, which sees all of a text at once. Use mean or auto."
        )
    if config.pooling != "auto":
        return config.pooling
    return recipe.pooling or ("last" if causal else "mean")


def _pool_first(hidden: Tensor, _: Tensor | None) -> Tensor:
    return hidden[:, 0]


def _pool_last(hidden: Tensor, weight: Tensor | None) -> Tensor:
    if weight is None:
        return hidden[:, -1]
    last = weight[..., 0].sum(1).long() - 1
    return hidden[torch.arange(len(hidden), device=hidden.device), last]


def _pool_max(hidden: Tensor, weight: Tensor | None) -> Tensor:
    return (hidden if weight is None else hidden.masked_fill(weight == 0, -torch.inf)).amax(1)


def _pool_mean(hidden: Tensor, weight: Tensor | None) -> Tensor:
    if weight is None:
        return hidden.mean(1)
    return (hidden * weight).sum(1) / weight.sum(1).clamp(min=1)


def _pool_mean_sqrt_length(hidden: Tensor, weight: Tensor | None) -> Tensor:
    length = hidden.new_tensor(hidden.shape[1]) if weight is None else weight.sum(1).clamp(min=1)
    return _pool_mean(hidden, weight) * length.sqrt()


def _pool_weighted_mean(hidden: Tensor, weight: Tensor | None) -> Tensor:
    """Return the mean with weights 1, 2, 3, ... by position (SGPT, Muennighoff 2022, arXiv:2202.08904)."""
    position = torch.arange(1, hidden.shape[1] + 1, device=hidden.device, dtype=hidden.dtype)[:, None]
    return _pool_mean(hidden, position.expand(len(hidden), -1, 1) if weight is None else weight * position)


def _pool_echo(hidden: Tensor, weight: Tensor | None) -> Tensor:
    """Return the mean over the second half, the repetition of a text (Springer et al. 2024, arXiv:2402.15449)."""
    ones = hidden.new_ones(*hidden.shape[:2], 1) if weight is None else weight
    length = ones.sum(1, keepdim=True)
    position = torch.arange(hidden.shape[1], device=hidden.device)[:, None]
    return _pool_mean(hidden, ones * (position >= length - length // 2))


_RULES: dict[str, Callable[[Tensor, Tensor | None], Tensor]] = {
    "cls": _pool_first,
    "max": _pool_max,
    "mean": _pool_mean,
    "mean_sqrt_length": _pool_mean_sqrt_length,
    "weighted_mean": _pool_weighted_mean,
    "last": _pool_last,
    "echo": _pool_echo,
}
