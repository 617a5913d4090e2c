"""What a worker is asked to train, on which log. Any Python with NumPy can import this."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Asked:
    """log: path of an .npz with user, item (from 0) and time, sorted by time. The model's size, the histories of a
    batch, and the batches of a round.
    """

    log: str
    dim: int
    layers: int
    heads: int
    max_history: int
    dropout: float
    batch: int
    steps: int

    def events(self) -> dict[str, np.ndarray]:
        with np.load(self.log) as columns:
            return {name: columns[name] for name in ("user", "item", "time")}
