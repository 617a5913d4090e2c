"""Stack of transformer layers inside a pretrained model, identified by its length."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from llmrec.errors import BackboneError


def find_layer_stack(model: nn.Module, wanted_by: str) -> nn.ModuleList:
    """Find the only ModuleList with `num_hidden_layers` layers.

    Args:
        model: Pretrained model.
        wanted_by: Setting that an error message names.

    Returns:
        The stack.

    Raises:
        BackboneError: If there is no such stack, as in an architecture that shares its layers.
    """
    config: Any = model.config
    n_layers = int(config.num_hidden_layers)
    stacks = [part for part in model.modules() if isinstance(part, nn.ModuleList) and len(part) == n_layers]
    if len(stacks) != 1 or getattr(config, "num_hidden_groups", n_layers) != n_layers:
        raise BackboneError(
            f"{wanted_by}: {type(model).__name__} has no single stack of {n_layers} layers. Use another backbone, or "
            "a strategy that does not count layers (lora, full)."
        )
    return stacks[0]


def make_bidirectional(model: nn.Module) -> None:
    """Let each token of a decoder see the tokens after it; transformers stores that in the model's settings.

    Args:
        model: Pretrained decoder, changed in place.
    """
    model.config.is_causal = False  # type: ignore[union-attr]
    for part in model.modules():
        if hasattr(part, "is_causal"):
            part.is_causal = False  # type: ignore[assignment]


def truncate_layers(model: nn.Module, k: int) -> None:
    """Drop the layers above the k-th, in place, for a smaller model that starts with the first layers.

    Args:
        model: Pretrained model.
        k: Number of layers to keep.

    Raises:
        BackboneError: If there is no single stack, or k is out of range.
    """
    stack, config = find_layer_stack(model, "backbone.n_layers"), model.config
    if not 1 <= k <= len(stack):
        raise BackboneError(
            f"backbone.n_layers={k}: this backbone has {len(stack)} layers. Set it to 1 to {len(stack)}."
        )
    kinds: Any = getattr(config, "layer_types", None)  # kind of attention of each layer, if they differ
    if kinds:
        config.layer_types = kinds[:k]  # type: ignore[union-attr]
    config.num_hidden_layers = k  # type: ignore[union-attr]
    del stack[k:]


def get_last_layers(model: nn.Module, k: int, *, wanted_by: str = "last_k") -> list[nn.Module]:
    """Return the top k transformer layers and the norm after them, if there is one.

    Args:
        model: Pretrained model.
        k: Number of layers.
        wanted_by: Setting that an error message names.

    Returns:
        The modules.

    Raises:
        BackboneError: If there is no single stack, or k is out of range.
    """
    stack = find_layer_stack(model, wanted_by)
    if not 1 <= k <= len(stack):
        raise BackboneError(f"{wanted_by}={k}: this backbone has {len(stack)} layers. Set it to 1 to {len(stack)}.")
    norms = [part for name, part in model.named_children() if "norm" in name or name == "ln_f"]
    return [*stack[-k:], *norms]


@contextmanager
def restrict_layers(model: nn.Module, first: int, end: int | None) -> Iterator[nn.ModuleList]:
    """Restrict a model to the layers from `first` up to `end` within a context.

    Args:
        model: Pretrained model.
        first: First layer.
        end: Exclusive end; None for all above.

    Yields:
        The remaining layers.
    """
    stack = find_layer_stack(model, "layers")
    owner, name = next(
        (part, name) for part in model.modules() for name, child in part.named_children() if child is stack
    )
    chunk = nn.ModuleList(list(stack)[first:end])
    setattr(owner, name, chunk)
    try:
        yield chunk
    finally:
        setattr(owner, name, stack)


@dataclass(frozen=True)
class PrecomputedHidden:
    """Hidden states of a batch after the first layers, which then need not run."""

    n_layers: int
    """Number of layers that were run."""
    states: Tensor
    """States, (U, L, D)."""

    @contextmanager
    def inject(self, model: nn.Module) -> Iterator[None]:
        """Make a model start above these layers, with these states, within a context.

        Args:
            model: Pretrained model.

        Yields:
            Nothing.
        """

        def enter(
            _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
        ) -> tuple[tuple[Any, ...], dict[str, Any]]:
            return (self.states, *args[1:]), {k: value for k, value in kwargs.items() if k != "hidden_states"}

        with restrict_layers(model, self.n_layers, None) as upper:
            hook = upper[0].register_forward_pre_hook(enter, with_kwargs=True)
            try:
                yield
            finally:
                hook.remove()


class HiddenStateSource(Protocol):
    """Source of precomputed hidden states of a model's first layers."""

    def get_batch(self, rows: NDArray[np.int64], device: torch.device) -> PrecomputedHidden:
        """Return the hidden states of a batch of texts.

        Args:
            rows: Positions of the texts, (U,).
            device: Device of the result.

        Returns:
            Hidden states, padded as the tokens are.
        """
        ...
