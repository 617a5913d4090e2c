"""Popularity, of all training events and of the last days: the baselines that shame many models."""

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
    """The same scores for everyone. counts: (N,) float32."""

    counts: Tensor

    @classmethod
    def fit(cls, split: Split) -> Popularity:
        """Training events of each item."""
        return cls(_count(split.train.item, split.n_items))

    def score(self, queries: Queries) -> Tensor:
        return self.counts.expand(len(queries), -1)  # (B, N)


@dataclass(frozen=True)
class RecentSettings:
    days: float = 7.0


@dataclass(frozen=True)
class RecentPopularity:
    """Events of everyone, of whatever part, with a time in [t - days, t) for a query at t.

    It streams: events after the cut-off count as soon as they are past. `frozen` does not.
    """

    events: Interactions
    n_items: int
    settings: RecentSettings

    @classmethod
    def fit(cls, split: Split, settings: RecentSettings = RecentSettings()) -> RecentPopularity:
        return cls(split.interactions, split.n_items, settings)

    @staticmethod
    def fit_static(split: Split, settings: RecentSettings = RecentSettings()) -> Popularity:
        """The same as it stood at the last training event: what a model that is not updated can know."""
        train = split.train
        recent = train.time > train.time[-1] - _get_window_seconds(settings)
        return Popularity(_count(train.item[recent], split.n_items))

    @staticmethod
    def tune(split: Split, valid: Queries, tuning: Tuning) -> TuningResult[RecentSettings]:
        def build(settings: RecentSettings) -> tuple[RecentPopularity, RecentSettings]:
            return RecentPopularity.fit(split, settings), settings

        grid = map(RecentSettings, (1.0, 3.0, 7.0, 14.0, 30.0, 60.0, 90.0, 180.0, 365.0, 730.0))
        return tune_on_grid("recent_popularity", RecentSettings(), grid, build, valid, tuning)

    def score(self, queries: Queries) -> Tensor:
        """A sweep: each event enters at the first query time after it and leaves `days` later."""
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
