"""Item-to-item term of the model: each event of a history raises the scores of similar items.

A state gains a * sum_j w_j v_j, so that the score of item i gains sum_j w_j <v_j, a * v_i>: a factored item-to-item
model (FISM, Kabbur et al. 2013, doi:10.1145/2487575.2487589) with weights w_j that fall by a learned factor with each
step back. With text it starts as the similarity of the texts, which cold items have as well; ids then add which items
are bought together.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

RECENCY = 0.8  # initial weight of an event relative to the one after it


def compute_recency_weights(factor: Tensor, steps: int) -> Tensor:
    """Return the weight of each event in each state: `factor` to the power of the number of events since.

    Args:
        factor: Weight of an event relative to the one after it, a scalar tensor.
        steps: Number of events, T.

    Returns:
        Weights, (T + 1, T), oldest event first; 0 for events after the state.
    """
    place = torch.arange(steps + 1, device=factor.device)
    back = place[:, None] - 1 - place[:-1]
    return (factor ** back.clamp(min=0)).masked_fill(back < 0, 0.0)


class ItemAffinity(nn.Module):
    """Term that adds a weighted sum of item vectors to each state.

    Args:
        scale: Initial weight of each direction of item vectors, (D,).
        dropout: Dropout probability of the item vectors.
    """

    def __init__(self, scale: Tensor, dropout: float) -> None:
        super().__init__()
        self.scale = nn.Parameter(scale.clone())
        self.recency = nn.Parameter(torch.logit(torch.tensor(RECENCY)))
        self.dropout = nn.Dropout(dropout)

    def forward(self, vectors: Tensor, *, states: Tensor | None = None) -> Tensor:
        """Return the addition to each state.

        Args:
            vectors: Item vectors of histories, (B, T, D), oldest first; padding after a history is allowed, since it is
                to the right of every state that is used.
            states: The only state of each history to compute, (B,); None for all.

        Returns:
            Additions, (B, T + 1, D), or (B, 1, D) with `states`.
        """
        weight = compute_recency_weights(torch.sigmoid(self.recency), vectors.shape[1])  # (T + 1, T)
        weight = weight / weight.sum(1, keepdim=True).clamp(min=1e-9)  # the first state has no events
        if states is not None:
            weight = weight[states, None]  # (B, 1, T)
        gain: Tensor = self.scale * (weight @ self.dropout(vectors))
        return gain
