"""Text similarity between an item and a history as an untrained term of the model.

The score of item i gains strength * cos(sum_j w_j c_j, c_i), where c are text vectors minus the mean of the catalog,
in the space of a `SpectralMap` if there is one, of unit length, and w_j falls by `recency` with each step back.
Training moves text vectors towards popular items, at the expense of rare and cold ones; this term is not trained, and
neither is anything trained with it, so that it is equally valid for all items. Validation sets its two numbers.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from llmrec.models.item_affinity import compute_recency_weights


class TextSimilarity(nn.Module):
    """Term that is off, and adds no vectors, in training mode and while `strength` is 0.

    Args:
        text: Text vectors of the catalog, (N, D_text).
    """

    strength: Tensor
    """Weight of the cosine in the score, (); 0 turns the term off."""
    recency: Tensor
    """Weight of an event relative to the one after it, 0 to 1, ()."""
    centre: Tensor  # codespell:ignore - the name in saved bundles
    """Subtracted from every text vector, (D_text,): vectors of language models share a large component."""

    map: Tensor
    """Map of centered text vectors to the space they are compared in, (D_text, D_text); at first the identity."""

    def __init__(self, text: Tensor) -> None:
        super().__init__()
        self.register_buffer("strength", torch.zeros(()))
        self.register_buffer("recency", torch.ones(()))
        width = text.shape[1]
        # On the meta device a mean and an identity would import the compiler.
        center = text.new_empty(width) if text.is_meta else text.mean(0)
        identity = text.new_empty(width, width) if text.is_meta else torch.eye(width, dtype=text.dtype)
        self.register_buffer("centre", center)  # codespell:ignore
        self.register_buffer("map", identity)

    def set_parameters(self, strength: float, recency: float) -> None:
        """Set the two numbers of the term.

        Args:
            strength: Weight of the cosine in the score; 0 turns the term off.
            recency: Weight of an event relative to the one after it, 0 to 1.
        """
        self.strength.fill_(strength)
        self.recency.fill_(recency)

    def set_map(self, matrix: Tensor) -> None:
        """Set the space that texts are compared in.

        Args:
            matrix: Map of centered text vectors, (D_text, D_text).
        """
        self.map.copy_(matrix)

    def copy_space(self, other: TextSimilarity) -> None:
        """Copy the center and the map of another term, if its text vectors are as wide.

        Args:
            other: Term to copy from.
        """
        if self.map.shape == other.map.shape:
            self.map.copy_(other.map)
            self.centre.copy_(other.centre)  # codespell:ignore

    def __bool__(self) -> bool:
        return not self.training and bool(self.strength > 0)

    def item_vectors(self, text: Tensor) -> Tensor:
        """Return the centered, mapped unit vectors of texts.

        Args:
            text: Text vectors, (C, D_text).

        Returns:
            Unit vectors, (C, D_text), for `history_states` and for scoring.
        """
        return functional.normalize((text - self.centre) @ self.map, dim=-1)  # codespell:ignore

    def history_states(self, vectors: Tensor, *, states: Tensor | None = None) -> Tensor:
        """Return the state of a history after each event.

        Args:
            vectors: Vectors of `item_vectors`, (B, T, D_text), oldest first; padding after a history is allowed, since
                it is to the right of every state that is used.
            states: The only state of each history to compute, (B,); None for all.

        Returns:
            States, (B, T + 1, D_text), or (B, 1, D_text) with `states`; 0 before all events.
        """
        weight = compute_recency_weights(self.recency, vectors.shape[1])  # (T + 1, T)
        if states is not None:
            weight = weight[states, None]  # (B, 1, T)
        return self.strength * functional.normalize(weight @ vectors, dim=-1)
