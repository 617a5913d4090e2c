"""The stack of transformer layers inside a pretrained model, found by its length alone."""

from __future__ import annotations

from typing import Any

from torch import nn

from llmrec.errors import BackboneError


def layer_stack(model: nn.Module, wanted_by: str) -> nn.ModuleList:
    """The only ModuleList as long as `num_hidden_layers`. wanted_by: the setting that an error names.

    Raises:
        BackboneError: no such stack (an architecture that shares its layers, say).
    """
    config: Any = model.config
    n_layers = int(config.num_hidden_layers)
    stacks = [part for part in model.modules() if isinstance(part, nn.ModuleList) and len(part) == n_layers]
    if len(stacks) != 1 or getattr(config, "num_hidden_groups", n_layers) != n_layers:
        raise BackboneError(
            f"{wanted_by}: {type(model).__name__} has no single stack of {n_layers} layers; use another backbone, or "
            "a strategy that does not count layers (lora, full)"
        )
    return stacks[0]


def keep_first_layers(model: nn.Module, k: int) -> None:
    """Drop every layer above the k-th, in place: a smaller model that begins with what the first layers know.

    Raises:
        BackboneError: no single stack, or k out of range.
    """
    stack, config = layer_stack(model, "backbone.layers"), model.config
    if not 1 <= k <= len(stack):
        raise BackboneError(f"backbone.layers={k}: this backbone has {len(stack)} layers; give 1 to {len(stack)}")
    kinds: Any = getattr(config, "layer_types", None)  # what attention each layer has, where they differ
    if kinds:
        config.layer_types = kinds[:k]  # type: ignore[union-attr]
    config.num_hidden_layers = k  # type: ignore[union-attr]
    del stack[k:]
