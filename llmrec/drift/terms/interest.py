"""How much each of a user's last events still says: w_uj proportional to exp(-lambda * age) * gamma^(steps back)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

FORGET_PER_DAY, STEP_BACK = 1 / 60, 0.8  # lambda and gamma to start with


class EventWeights(nn.Module):
    """Weights over a history, with lambda and gamma learned."""

    def __init__(self) -> None:
        super().__init__()
        self.log_forget = nn.Parameter(torch.tensor(FORGET_PER_DAY).log())
        self.step_back = nn.Parameter(torch.logit(torch.tensor(STEP_BACK)))

    def forward(self, age_days: Tensor, steps_back: Tensor, mask: Tensor) -> Tensor:
        """age_days, steps_back, mask: (B, T) -> weights (B, T) that sum to one; all 0 without a history.

        >>> weights = Interest()(torch.tensor([[60.0, 0.0, 0.0]]), torch.tensor([[1.0, 0.0, 0.0]]),
        ...                      torch.tensor([[True, True, False]]))
        >>> [round(w, 3) for w in weights[0].tolist()]  # exp(-1) * .8 against 1
        [0.227, 0.773, 0.0]
        """
        forget = -self.log_forget.exp() * age_days + steps_back * nn.functional.logsigmoid(self.step_back)
        forget = forget.masked_fill(~mask, -torch.inf)
        nearest = forget.amax(1, keepdim=True).clamp(min=torch.finfo(forget.dtype).min)
        weight = (forget - nearest).exp()
        normalised: Tensor = weight / weight.sum(1, keepdim=True).clamp(min=1e-30)
        return normalised
