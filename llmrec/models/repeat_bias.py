"""What the score of an item gains because the history holds it: users take some items again, and others never.

The gain is linear in the item's last position (in powers of two), the number of its events in the history, and the
log-odds of its repeats in training. Calibration sets the weights where rankings keep items of the history.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

N_GAPS = 7  # 1, 2-3, 4-7, ... steps back, the last without an end
N_FEATURES = 1 + N_GAPS + 2
PRIOR_EVENTS = 10.0  # events of an average item that are added to each item's own


class RepeatBias(nn.Module):
    """Gain that is 0 until `set_weights`.

    Args:
        n_items: Number of items of the catalog, N.
    """

    weights: Tensor
    """Weights of the features: constant, position, log2 count, repeats of the item, (N_FEATURES,)."""
    rate: Tensor
    """Log-odds of an item's repeats in training minus those of all items, (N,)."""

    def __init__(self, n_items: int) -> None:
        super().__init__()
        self.register_buffer("weights", torch.zeros(N_FEATURES))
        self.register_buffer("rate", torch.zeros(n_items))

    def __bool__(self) -> bool:
        return bool(self.weights.any())

    def set_rates(self, events: NDArray[np.int64], repeats: NDArray[np.int64]) -> None:
        """Set the rates of items, shrunk towards that of all items.

        Args:
            events: Training events of each item, (N,).
            repeats: Those of them by users who had the item before, (N,).
        """
        mean = (repeats.sum() + 0.5) / (events.sum() + 1)
        rate = (repeats + PRIOR_EVENTS * mean) / (events + PRIOR_EVENTS)
        self.rate.copy_(torch.logit(torch.from_numpy(rate)) - torch.logit(torch.tensor(mean, dtype=torch.float64)))

    def set_weights(self, weights: Tensor) -> None:
        """Set the weights; zeros turn the gain off.

        Args:
            weights: (N_FEATURES,).
        """
        self.weights.copy_(weights)

    def extend(self, n_new: int) -> None:
        """Append items without training events.

        Args:
            n_new: Number of items.
        """
        self.rate = torch.cat([self.rate, self.rate.new_zeros(n_new)])

    def features(self, item: Tensor, gap: Tensor, count: Tensor) -> Tensor:
        """Compute the features of items of histories.

        Args:
            item: Catalog rows; from row N on, items outside the catalog, (P,).
            gap: Steps back to the item's last event, from 1, (P,).
            count: Events of the item in the history, from 1, (P,).

        Returns:
            Features, (P, N_FEATURES).
        """
        item, gap, count = (column.to(self.rate.device) for column in (item, gap, count))
        step = gap.double().log2().floor().long().clamp(max=N_GAPS - 1)
        rate = functional.pad(self.rate, (0, 1))[item.clamp(max=len(self.rate))]
        columns = torch.ones_like(rate), count.double().log2().to(rate), rate
        position = functional.one_hot(step, N_GAPS).to(rate)
        return torch.cat([columns[0][:, None], position, columns[1][:, None], columns[2][:, None]], dim=1)

    def forward(self, item: Tensor, gap: Tensor, count: Tensor) -> Tensor:
        """Compute what the scores of items of histories gain.

        Args:
            item: As in `features`, (P,).
            gap: As in `features`, (P,).
            count: As in `features`, (P,).

        Returns:
            Gains, (P,).
        """
        return self.features(item, gap, count) @ self.weights

    def describe(self) -> dict[str, float | list[float]]:
        """Return the weights by name, for reports.

        Returns:
            Rounded weights: by steps back (1, 2-3, 4-7, ...), for twice the count, and of the item's log-odds.
        """
        constant, *others = [round(weight, 3) for weight in self.weights.tolist()]
        gaps, (count, rate) = [round(constant + gap, 3) for gap in others[:N_GAPS]], others[N_GAPS:]
        return {"by_steps_back": gaps, "count": count, "rate": rate}
