"""Popularity of all training events and of the last days."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from llmrec.data.histories import Queries
from llmrec.data.interactions import Interactions
from llmrec.data.splits import Split
from llmrec.evaluation.baselines.tuning import Tuning, TuningResult, tune_on_grid
from llmrec.utils.arrays import Rows
from llmrec.utils.units import SECONDS_PER_DAY


@dataclass(frozen=True)
class Popularity:
    """Scorer with the same scores for all users."""

    counts: Tensor
    """Number of training events of each item, (N,) float32."""

    @classmethod
    def fit(cls, split: Split) -> Popularity:
        """Count the training events of each item.

        Args:
            split: Split whose training part is used.

        Returns:
            The baseline.
        """
        return cls(_count(split.train.item, split.n_items))

    def score(self, queries: Queries) -> Tensor:
        """Score the whole catalog for each query.

        Args:
            queries: Queries, B of them.

        Returns:
            Scores, (B, N).
        """
        return self.counts.expand(len(queries), -1)  # (B, N)


@dataclass(frozen=True)
class RecentSettings:
    """Settings of recent popularity."""

    days: float = 7.0
    """Length of the window in days."""


@dataclass(frozen=True)
class RecentPopularity:
    """Scorer by the events of all users in [t - days, t) for a query at t, also those after the cutoff."""

    events: Interactions
    """Events of all parts in time order."""
    n_items: int
    """Number of items of the catalog."""
    settings: RecentSettings
    """Settings."""

    @classmethod
    def fit(cls, split: Split, settings: RecentSettings = RecentSettings()) -> RecentPopularity:
        """Store the events of a split.

        Args:
            split: Split of the log.
            settings: Settings.

        Returns:
            The baseline.
        """
        return cls(split.visible, split.n_items, settings)

    @staticmethod
    def fit_static(split: Split, settings: RecentSettings = RecentSettings()) -> Popularity:
        """Count the last days before the end of training, for a model that is not updated.

        Args:
            split: Split whose training part is used.
            settings: Settings.

        Returns:
            The static baseline.
        """
        train = split.train
        recent = train.time > train.time[-1] - _get_window_seconds(settings)
        return Popularity(_count(train.item[recent], split.n_items))

    @staticmethod
    def tune(split: Split, valid: Queries, tuning: Tuning) -> TuningResult[RecentSettings]:
        """Choose settings on validation queries.

        Args:
            split: Split of the log.
            valid: Validation queries.
            tuning: Budget of the search.

        Returns:
            Tried and chosen settings.
        """

        def build(settings: RecentSettings) -> tuple[RecentPopularity, RecentSettings]:
            return RecentPopularity.fit(split, settings), settings

        grid = map(RecentSettings, (1.0, 3.0, 7.0, 14.0, 30.0, 60.0, 90.0, 180.0, 365.0, 730.0))
        return tune_on_grid("recent_popularity", RecentSettings(), grid, build, valid=valid, tuning=tuning)

    def score(self, queries: Queries) -> Tensor:
        """Score the whole catalog for each query.

        Args:
            queries: Queries, B of them.

        Returns:
            Scores, (B, N).
        """
        # Each event enters at the first query time after it and leaves `days` later.
        times, row = np.unique(queries.time, return_inverse=True)  # (R,) ascending
        if not len(times):
            return torch.zeros(0, self.n_items)
        window = _get_window_seconds(self.settings)
        first, last = np.searchsorted(self.events.time, [times[0] - window, times[-1]])
        time, item = self.events.time[first:last], self.events.item[first:last]
        change = np.zeros((len(times), self.n_items), dtype=np.float32)  # (R, N)
        for moment, step in ((times, 1.0), (times - window, -1.0)):
            at = np.searchsorted(moment, time, side="right")  # first row whose moment is strictly after the event
            inside = at < len(times)
            np.add.at(change, (at[inside], item[inside]), step)
        return torch.from_numpy(change.cumsum(axis=0)[row])  # (B, N)


def _get_window_seconds(settings: RecentSettings) -> int:
    return round(settings.days * SECONDS_PER_DAY)


def _count(items: Rows, n_items: int) -> Tensor:
    return torch.from_numpy(np.bincount(items, minlength=n_items).astype(np.float32))
