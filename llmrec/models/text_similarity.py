"""How near an item's text is to the texts of a history: nearest text as a term of the model.

Item i's score gains strength * cos(sum_j w_j c_j, c_i), where c are text vectors less the mean of the catalog's, of
unit length, and w_j falls by `recency` with each step back. What is trained bends the space of texts towards items that
many took, at the expense of those that few or none did; this term is not trained, nor is anything trained beside it, so
that it holds for all alike. The validation window sets its two numbers.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from llmrec.models.item_affinity import compute_recency_weights


class TextSimilarity(nn.Module):
    """Off, and no part of any vector, in training mode and as long as `strength` is 0.

    centre: (D_text,) what is taken off every text vector first: language models' have a large part in common.
    """

    strength: Tensor
    recency: Tensor
    centre: Tensor

    def __init__(self, text: Tensor) -> None:
        """text: (N, D_text) of the catalog."""
        super().__init__()
        self.register_buffer("strength", torch.zeros(()))
        self.register_buffer("recency", torch.ones(()))
        self.register_buffer("centre", text.mean(0))

    def set_parameters(self, strength: float, recency: float) -> None:
        self.strength.fill_(strength)
        self.recency.fill_(recency)

    def __bool__(self) -> bool:
        return not self.training and bool(self.strength > 0)

    def item_vectors(self, text: Tensor) -> Tensor:
        """(C, D_text) -> (C, D_text) unit vectors, for `history_states` and to score."""
        return functional.normalize(text - self.centre, dim=-1)

    def history_states(self, vectors: Tensor) -> Tensor:
        """Vectors (B, T, D_text) of histories' items, oldest first -> states (B, T + 1, D_text); 0 before all events.

        Padding may follow a history: it lies right of every state that is asked for.
        """
        weight = compute_recency_weights(self.recency, vectors.shape[1])  # (T + 1, T)
        return self.strength * functional.normalize(weight @ vectors, dim=-1)
