"""What a user touched speaks for items like it, beside what the transformer makes of the whole history.

A state gains a * sum_j w_j v_j, so that item i's score gains sum_j w_j <v_j, a * v_i>: a factored item-to-item model
(FISM, Kabbur et al. 2013, doi:10.1145/2487575.2487589) with weights w_j that fall by a learned factor with each step
back. With text it starts as the similarity of the texts themselves, which cold items have as well, and ids then add
what is bought together.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

RECENCY = 0.8  # weight of an event against that of the one after it, to start with


def compute_recency_weights(factor: Tensor, steps: int) -> Tensor:
    """(T + 1, T) of each of T events, oldest first, in each state between them: `factor` () to the number of events
    since, and 0 for what is still to come.
    """
    place = torch.arange(steps + 1, device=factor.device)
    back = place[:, None] - 1 - place[:-1]
    return (factor ** back.clamp(min=0)).masked_fill(back < 0, 0.0)


class ItemAffinity(nn.Module):
    """scale: (D,) weight of each direction of item vectors, to start with. dropout: of what histories put in."""

    def __init__(self, scale: Tensor, dropout: float) -> None:
        super().__init__()
        self.scale = nn.Parameter(scale.clone())
        self.recency = nn.Parameter(torch.logit(torch.tensor(RECENCY)))
        self.dropout = nn.Dropout(dropout)

    def forward(self, vectors: Tensor) -> Tensor:
        """Item vectors (B, T, D) of histories, oldest first -> what each state gains (B, T + 1, D).

        Padding may follow a history: it lies right of every state that is asked for.
        """
        weight = compute_recency_weights(torch.sigmoid(self.recency), vectors.shape[1])  # (T + 1, T)
        weight = weight / weight.sum(1, keepdim=True).clamp(min=1e-9)  # nothing before the first state
        gain: Tensor = self.scale * (weight @ self.dropout(vectors))
        return gain
