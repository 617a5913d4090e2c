"""Spectral map: the linear space of text vectors in which items that users choose in turn are similar, in closed form.

Let S be the covariance of the texts of a log's events, and M the covariance between the texts of two events of one user
that are close to each other. The directions w with the largest w' M w, for w' (S + ridge) w = 1, are the eigenvectors
of (S + ridge)^-1/2 M (S + ridge)^-1/2: a canonical correlation analysis of neighboring texts, and the optimum of a
linear contrast of items. It uses no ids, so that it is equally valid for new items.

Source:
    Hotelling 1936, doi:10.1093/biomet/28.3-4.321; as the optimum of a contrast: HaoChen et al. 2021, arXiv:2106.04156.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from llmrec.utils.arrays import Rows

ITEMS_AT_ONCE = 1 << 16  # whose vectors are held in double precision
POWER = 0.5  # of a direction's strength in the similarity; 1 ranked new items no better on three logs


@dataclass(frozen=True)
class TextMoments:
    """Moments of the texts of one log, about their own center."""

    center: Tensor
    """Mean text vector of the events, (D,) float64."""
    covariance: Tensor
    """S, covariance of the texts of events, (D, D) float64."""
    neighbors: Tensor
    """M, covariance of the texts of neighboring events, symmetric, (D, D) float64."""

    @classmethod
    def from_pairs(cls, text: Tensor, counts: NDArray[np.int64], pairs: Rows) -> TextMoments:
        """Compute the moments of a log.

        Args:
            text: Text vectors of the catalog, (N, D), on the CPU.
            counts: Events of each item, (N,), some of them above 0.
            pairs: Catalog rows of neighboring events, (P, 2), at least one pair.

        Returns:
            The moments.
        """
        known = np.flatnonzero(counts)
        share = torch.from_numpy(counts[known] / counts.sum())  # of the events
        center = share @ text[torch.from_numpy(known)].double()
        centered = text.float() - center.float()
        each = np.full(len(pairs), 1 / len(pairs), dtype=np.float32)
        table = sparse.csr_array((each, (pairs[:, 0], pairs[:, 1])), shape=(len(text), len(text)))
        covariance, neighbors = torch.zeros(2, len(center), len(center), dtype=torch.float64)
        for start in range(0, len(known), ITEMS_AT_ONCE):
            rows = known[start : start + ITEMS_AT_ONCE]
            own = centered[torch.from_numpy(rows)].double()
            covariance += own.T @ (own * share[start : start + ITEMS_AT_ONCE, None])
            neighbors += own.T @ torch.from_numpy(table[rows] @ centered.numpy()).double()
        return cls(center, covariance, (neighbors + neighbors.T) / 2)


@dataclass(frozen=True)
class SpectralMap:
    """Directions of text vectors, the best ones first."""

    center: Tensor
    """Mean text vector of the events of the last log, (D,)."""
    directions: Tensor
    """Directions w, (D, D): their coordinates have about unit variance and are uncorrelated."""
    strength: Tensor
    """Share of the variance of each direction that neighboring events have in common, 0 to 1, (D,), falling."""

    @classmethod
    def fit(cls, logs: Sequence[TextMoments], *, ridge: float) -> SpectralMap:
        """Solve for the directions of one or several logs, which weigh the same.

        Args:
            logs: Moments of each log, with a center of its own.
            ridge: Added to the variance of every direction, as a share of the mean variance.

        Returns:
            The map.
        """
        covariance = torch.stack([log.covariance for log in logs]).sum(0)
        neighbors = torch.stack([log.neighbors for log in logs]).sum(0)
        values, vectors = torch.linalg.eigh(covariance)
        values = values.clamp(min=0) + (ridge * values.mean()).clamp(min=1e-12)
        root = (vectors / values.sqrt()) @ vectors.T  # (S + ridge)^-1/2
        strength, directions = torch.linalg.eigh(root @ neighbors @ root)
        return cls(logs[-1].center.float(), (root @ directions).flip(1).float(), strength.flip(0).clamp(min=0).float())

    @property
    def matrix(self) -> Tensor:
        """Map of centered text vectors to the space whose inner product is the similarity, (D, D)."""
        return self.directions * self.strength.pow(POWER / 2)

    def make_adaptor(self, dim: int, scale: float) -> tuple[Tensor, Tensor, Tensor]:
        """Make a linear layer of the best directions, as `fit_whitening` does of those with the largest variance.

        Args:
            dim: Number of directions, D_out.
            scale: Standard deviation of each direction.

        Returns:
            Weight, (D_out, D), bias, (D_out,), and the share of each direction in the similarity, (D_out,).
        """
        kept = min(dim, len(self.center))
        weight, share = torch.zeros(dim, len(self.center)), torch.zeros(dim)
        weight[:kept] = scale * self.directions[:, :kept].T
        similarity = self.strength[:kept].pow(POWER)
        share[:kept] = similarity / similarity.sum().clamp(min=1e-30)
        return weight, -weight @ self.center, share
