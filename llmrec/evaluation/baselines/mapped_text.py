"""Nearest text in the space of a spectral map: similarity of texts, as far as it shows what users choose in turn."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from torch import Tensor

from llmrec.data.histories import Queries
from llmrec.data.item_pairs import build_item_pairs
from llmrec.data.splits import Split
from llmrec.evaluation.baselines.nearest_text import NearestText, NearestTextSettings
from llmrec.evaluation.baselines.tuning import Tuning, TuningResult, tune_on_grid
from llmrec.models.spectral_map import SpectralMap, TextMoments

WINDOW = 3  # events after an event that it is paired with
RIDGES = (0.03, 0.1, 0.3)
GAMMAS = (0.8, 0.6, 0.9, 0.95)


def compute_text_moments(split: Split, text: Tensor) -> TextMoments | None:
    """Compute the moments of the texts of a training part.

    Args:
        split: Split whose training part is used.
        text: Text vectors of the catalog, (N, D_text).

    Returns:
        The moments; None if no user has two different items.
    """
    pairs = build_item_pairs(split.train, split.n_users, WINDOW)
    if not len(pairs):
        return None
    return TextMoments.from_pairs(text.cpu(), np.bincount(split.train.item, minlength=split.n_items), pairs.item)


@dataclass(frozen=True)
class MappedTextSettings:
    """Settings of nearest text in the space of a spectral map."""

    gamma: float = GAMMAS[0]
    """Factor of a history event's weight for each step back; 1 for equal weights."""
    ridge: float = RIDGES[0]
    """Ridge of the map, as a share of the mean variance of texts."""


@dataclass(frozen=True)
class MappedText:
    """Makes the baseline from the moments of texts."""

    text: Tensor
    """Text vectors of the catalog, (N, D_text)."""
    moments: TextMoments
    """Moments of the training part."""

    def fit(self, settings: MappedTextSettings) -> NearestText:
        """Fit the map and compare texts in its space.

        Args:
            settings: Settings.

        Returns:
            The baseline.
        """
        space = SpectralMap.fit([self.moments], ridge=settings.ridge)
        return NearestText.fit((self.text @ space.matrix).numpy(), NearestTextSettings(settings.gamma))

    def tune(self, valid: Queries, tuning: Tuning) -> TuningResult[MappedTextSettings]:
        """Choose settings on validation queries.

        Args:
            valid: Validation queries.
            tuning: Budget of the search.

        Returns:
            Tried and chosen settings.
        """
        grid = [MappedTextSettings(gamma, ridge) for gamma, ridge in product(GAMMAS, RIDGES)]
        name = "nearest_text_map"
        return tune_on_grid(name, grid[0], grid, lambda point: (self.fit(point), point), valid=valid, tuning=tuning)


def make_mapped_text(split: Split, text: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> MappedText | None:
    """Compute what the baseline is made from.

    Args:
        split: Split whose training part is used.
        text: Text vectors of the catalog, (N, D_text).

    Returns:
        Maker of the baseline; None if no user has two different items.
    """
    vectors = torch.from_numpy(np.ascontiguousarray(text, dtype=np.float32))
    moments = compute_text_moments(split, vectors)
    return None if moments is None else MappedText(vectors, moments)
