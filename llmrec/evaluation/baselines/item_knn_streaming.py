"""Streaming ItemKNN: the similarities for a query include every event of the days before it.

Each row measures one thing: the value of fresh counts (`item_knn_streaming`), of decaying pairs (`item_knn_decayed`),
and of decaying weights of a user's own events (`recency_decay`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from llmrec.data.histories import Queries
from llmrec.data.splits import Split
from llmrec.errors import ConfigError
from llmrec.evaluation.baselines.cooccurrence import CooccurrenceCounts, FirstInteractions
from llmrec.evaluation.baselines.item_knn import ItemKNNSettings, history_steps, nearest_neighbors
from llmrec.evaluation.baselines.tuning import Tuning, TuningResult, tune_on_grid
from llmrec.utils.arrays import concat_ranges
from llmrec.utils.units import SECONDS_PER_DAY

StreamingRow = Literal["item_knn_streaming", "item_knn_decayed", "recency_decay"]


@dataclass(frozen=True)
class StreamingSettings(ItemKNNSettings):
    """Settings of streaming ItemKNN.

    Raises:
        ConfigError: If a half-life is not above 0.
    """

    gamma: float = 0.5
    """Factor of a history event's weight for each step back; 1 for equal weights."""
    half_life_days: float | None = None
    """Half-life of the counts, see `cooccurrence`; None for no decay."""
    history_half_life_days: float | None = None
    """Half-life of the weights of a user's own events; None to use only their order, by gamma."""

    def __post_init__(self) -> None:
        for name in ("half_life_days", "history_half_life_days"):
            days = getattr(self, name)
            if days is not None and not days > 0:
                raise ConfigError(f"{name}={days:g}: not above 0. Set it above 0, or to None for no decay.")


class StreamingItemKNN:
    """Scorer with score(u, i) = sum over j in the history of w_j * n_ij / (sqrt(n_i n_j) + shrinkage).

    The sum is over neighbors of j. n includes every event before midnight (UTC) of the query's day, of all parts of the
    split; the history ends at the query; w_j = gamma^(steps back) * 2^(-days before the user's last event /
    history_half_life). Queries must come in time order; if the time goes back, a new pass has begun, and counting
    starts
    from scratch.

    Args:
        touches: First events of each user with each item.
        n_items: Number of items of the catalog.
        settings: Settings.
    """

    def __init__(self, touches: FirstInteractions, n_items: int, settings: StreamingSettings) -> None:
        self.touches, self.n_items, self.settings = touches, n_items, settings
        self._counts = self._reset_counts()

    @classmethod
    def fit(cls, split: Split, settings: StreamingSettings = StreamingSettings()) -> StreamingItemKNN:
        """Prepare the counts; events are counted as queries come.

        Args:
            split: Split of the log.
            settings: Settings.

        Returns:
            The baseline.
        """
        return cls(FirstInteractions.from_log(split.visible, split.n_users, split.n_items), split.n_items, settings)

    @staticmethod
    def tune(split: Split, valid: Queries, row: StreamingRow, tuning: Tuning) -> TuningResult[StreamingSettings]:
        """Choose settings on validation queries.

        Args:
            split: Split of the log.
            valid: Validation queries.
            row: Name of the row, which selects the grid.
            tuning: Budget of the search.

        Returns:
            Tried and chosen settings.
        """
        touches = FirstInteractions.from_log(split.visible, split.n_users, split.n_items)

        def build(settings: StreamingSettings) -> tuple[StreamingItemKNN, StreamingSettings]:
            return StreamingItemKNN(touches, split.n_items, settings), settings

        return tune_on_grid(row, *_GRIDS[row], build, valid=valid, tuning=tuning)

    def score(self, queries: Queries) -> Tensor:
        """Score the whole catalog for each query.

        Args:
            queries: Queries in time order, B of them.

        Returns:
            Scores, (B, N).
        """
        scores = torch.zeros(len(queries), self.n_items)  # (B, N)
        midnight = queries.time // SECONDS_PER_DAY * SECONDS_PER_DAY
        for moment in np.unique(midnight):
            today = np.flatnonzero(midnight == moment)
            scores[today] = self._score_day(queries.take(today), self._get_counts_at(int(moment)))
        return scores

    def _get_counts_at(self, moment: int) -> CooccurrenceCounts:
        if self._counts.moment is not None and moment < self._counts.moment:
            self._counts = self._reset_counts()
        self._counts.count_until(moment)
        return self._counts

    def _reset_counts(self) -> CooccurrenceCounts:
        return CooccurrenceCounts(self.touches, self.n_items, half_life_days=self.settings.half_life_days)

    def _score_day(self, queries: Queries, counts: CooccurrenceCounts) -> Tensor:
        query, item = queries.list_seen_pairs()
        items, column = np.unique(item, return_inverse=True)  # (R,), the only items whose similarities are needed
        similarity = nearest_neighbors(
            counts.get_rows(items), items, np.sqrt(counts.item_counts()), self.settings
        )  # (R, N)
        weight = _compute_history_weights(queries, self.settings)
        history = sparse.csr_array((weight, (query, column)), shape=(len(queries), len(items)))  # (B, R)
        return torch.from_numpy((history @ similarity).toarray())  # (B, N)


def _compute_history_weights(queries: Queries, settings: StreamingSettings) -> NDArray[np.float32]:
    """Compute the weight of each event in the histories (S,), in the order of `queries.list_seen_pairs()`."""
    weight = settings.gamma ** history_steps(queries)
    if settings.history_half_life_days is not None:
        lengths, time = queries.end - queries.start, queries.histories.time
        # Counting from the last event and not from the query multiplies all scores of a query by one factor, and keeps
        # them from vanishing.
        last = np.repeat(queries.end - 1, lengths)
        event = np.repeat(queries.start, lengths) + concat_ranges(lengths)
        weight = weight * np.exp2(-(time[last] - time[event]) / (settings.history_half_life_days * SECONDS_PER_DAY))
    return weight.astype(np.float32)


def _build_grid(default: StreamingSettings, **axes: tuple[float, ...]) -> list[StreamingSettings]:
    """Build every combination of the values given by name."""
    points: Iterable[dict[str, Any]] = (dict(zip(axes, point, strict=True)) for point in product(*axes.values()))
    return [replace(default, **point) for point in points]


_FRESH, _DECAYED = StreamingSettings(), StreamingSettings(half_life_days=30.0)
_RECENT = StreamingSettings(gamma=1.0, history_half_life_days=30.0)
_GRIDS = {
    "item_knn_streaming": (
        _FRESH,
        _build_grid(_FRESH, gamma=(1.0, 0.8, 0.5), neighbors=(50, 100, 1000), shrinkage=(0.0, 10.0, 30.0, 100.0)),
    ),
    "item_knn_decayed": (
        _DECAYED,
        _build_grid(
            _DECAYED,
            gamma=(1.0, 0.8, 0.5),
            shrinkage=(1.0, 10.0, 30.0, 100.0),
            half_life_days=(7.0, 30.0, 90.0, 180.0, 365.0),
        ),
    ),
    "recency_decay": (
        _RECENT,
        _build_grid(_RECENT, shrinkage=(0.0, 10.0, 30.0), history_half_life_days=(1.0, 7.0, 30.0, 90.0, 365.0)),
    ),
}
