"""Nearest text: untrained similarity of item texts to those of a history, for cold and warm items."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from llmrec.data.histories import Queries
from llmrec.evaluation.baselines.tuning import Tuning, TuningResult, tune_on_grid

_MAX_HISTORY = 50


@dataclass(frozen=True)
class NearestTextSettings:
    """Settings of nearest text."""

    gamma: float = 0.8
    """Factor of a history event's weight for each step back; 1 for equal weights."""


@dataclass(frozen=True)
class NearestText:
    """Scorer by the cosine of an item and the weighted mean of a history's vectors; 0 without a history."""

    vectors: Tensor
    """Centered unit vectors, (N, D) float32."""
    settings: NearestTextSettings
    """Settings."""

    @classmethod
    def fit(
        cls, text_vectors: NDArray[np.float32], settings: NearestTextSettings = NearestTextSettings()
    ) -> NearestText:
        """Center and normalize the text vectors of a catalog.

        Args:
            text_vectors: Text vectors, (N, D).
            settings: Settings.

        Returns:
            The baseline.
        """
        # Vectors of language models share a large component that hides the differences.
        vectors = torch.from_numpy(np.ascontiguousarray(text_vectors, dtype=np.float32))
        return cls(functional.normalize(vectors - vectors.mean(dim=0), dim=1), settings)

    @staticmethod
    def tune(text_vectors: NDArray[np.float32], valid: Queries, tuning: Tuning) -> TuningResult[NearestTextSettings]:
        """Choose settings on validation queries.

        Args:
            text_vectors: Text vectors, (N, D).
            valid: Validation queries.
            tuning: Budget of the search.

        Returns:
            Tried and chosen settings.
        """

        def build(settings: NearestTextSettings) -> tuple[NearestText, NearestTextSettings]:
            return NearestText.fit(text_vectors, settings), settings

        grid = map(NearestTextSettings, (1.0, 0.97, 0.95, 0.9, 0.85, 0.8, 0.7, 0.6, 0.5, 0.4, 0.2, 0.0))
        return tune_on_grid("nearest_text", NearestTextSettings(), grid, build, valid=valid, tuning=tuning)

    def score(self, queries: Queries) -> Tensor:
        """Score the whole catalog for each query.

        Args:
            queries: Queries, B of them.

        Returns:
            Scores, (B, N).
        """
        position, mask = queries.last_positions(_MAX_HISTORY)  # (B, T)
        steps_back = mask.sum(axis=1, keepdims=True) - 1 - np.arange(mask.shape[1])
        weight = np.where(mask, np.power(self.settings.gamma, np.maximum(steps_back, 0)), 0.0).astype(np.float32)
        item = torch.from_numpy(np.where(mask, queries.histories.item[position], 0))
        # (B, 1, T) @ (B, T, D) -> (B, D)
        liked = (torch.from_numpy(weight)[:, None] @ self.vectors[item]).squeeze(1)
        return functional.normalize(liked, dim=1) @ self.vectors.T  # (B, N)
