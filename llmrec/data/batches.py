"""Tensors from events: training windows, batches of about equal work, and the type of a batch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from llmrec.data.histories import Histories, Queries
from llmrec.data.interactions import Interactions, Ties
from llmrec.utils.arrays import Rows, concat_ranges, pad_ranges

CHUNK_ROWS = 1 << 20  # events that are cut into windows at a time
POOL_BATCHES = 32  # windows are sorted by length within pools of this many batches, which keeps their order random


class HistoryBatch(NamedTuple):
    """B histories of up to T events, and M targets to predict from their states.

    State k of a history is computed from its first k events; state 0 is computed from none.
    """

    history: Tensor
    """Catalog rows, (B, T), oldest first, padded on the right."""
    history_mask: Tensor
    """True for events, False for padding, (B, T) bool."""
    event_time: Tensor
    """Event times in seconds, (B, T)."""
    query_time: Tensor
    """Query time of each state in seconds, (B, T + 1)."""
    source: Tensor
    """State of each target as a row of the flattened states, B * (T + 1), (M,)."""
    target: Tensor
    """Catalog rows of the targets, (M,)."""

    def to(self, device: torch.device) -> HistoryBatch:
        """Copy the batch to a device.

        Args:
            device: Target device.

        Returns:
            The batch on that device.
        """
        return HistoryBatch(*(column.to(device, non_blocking=True) for column in self))

    def find_single_states(self) -> Tensor | None:
        """Return the one state that the targets read of each history, if there is one target per history, in order.

        Returns:
            States from 0 to T, (B,); None if some history has no target or several.
        """
        size, n_states = self.query_time.shape
        if len(self.source) != size:
            return None
        state = self.source - torch.arange(size, device=self.source.device) * n_states
        return state if bool(((state >= 0) & (state < n_states)).all()) else None


@dataclass(frozen=True, slots=True)
class TrainingWindows:
    """W training windows: stretches of at most T events of a user, in which each target occurs once.

    The targets of window w are `target[first_target[w]:first_target[w + 1]]`.
    """

    histories: Histories
    """Events of all users."""
    start: Rows
    """Start of the window's history in `histories`, (W,)."""
    end: Rows
    """End of the window's history in `histories`, exclusive, (W,)."""
    first_target: Rows
    """Offset of the window's first target in `target`, (W + 1,)."""
    target: Rows
    """Targets as rows of `histories`, (M,)."""
    state: Rows
    """State from which each event of `histories` is predicted, (E,)."""

    def __len__(self) -> int:
        return len(self.start)

    @property
    def n_targets(self) -> Rows:
        """Number of targets of each window, (W,)."""
        return np.diff(self.first_target)

    def subsample_targets(self, most: int, rng: np.random.Generator) -> TrainingWindows:
        """Draw at most `most` targets of each window at random; histories do not change.

        Args:
            most: Maximum number of targets of a window.
            rng: Random generator.

        Returns:
            The windows with fewer targets.
        """
        window = np.repeat(np.arange(len(self)), self.n_targets)
        drawn = np.lexsort((rng.random(len(window)), window))[concat_ranges(self.n_targets) < most]
        first = np.concatenate([[0], np.cumsum(np.minimum(self.n_targets, most))])
        return replace(self, first_target=first, target=self.target[np.sort(drawn)])


def build_training_windows(train: Interactions, n_users: int, max_history: int, ties: Ties) -> TrainingWindows:
    """Cut the events of each user into windows that end at the newest event.

    Args:
        train: Training events.
        n_users: Number of users.
        max_history: Maximum number of events of a window, T.
        ties: Rule for events of the same time.

    Returns:
        The windows; one forward pass over a window serves all of its targets.
    """
    # A target is predicted from the state that ends where its history ends, so that under `strict` ties the events of
    # one moment share a state and never see each other.
    histories = Histories.from_interactions(train, n_users)
    del train  # usually a copy
    known, offset = histories.find_history_ends(ties), histories.offset
    windows = [np.zeros((3, 0), dtype=np.int64)]
    low = 0
    while low < n_users:
        high = max(int(np.searchsorted(offset, offset[low] + CHUNK_ROWS, side="right")) - 1, low + 1)
        windows.append(_cut_windows(known[offset[low] : offset[high]], offset[low : high + 1], max_history))
        low = high
    start, end, begins = np.concatenate(windows, axis=1)
    first_target = np.append(begins, len(known))
    known -= np.repeat(start, np.diff(first_target))
    return TrainingWindows(histories, start, end, first_target, np.arange(len(known)), known)


def _cut_windows(known: Rows, offset: Rows, max_history: int) -> Rows:
    """Return start, end and first target (3, W) of the windows of some users, newest window last."""
    # `known` (E,) is where the history of each of these events ends, `offset` (n + 1,) where each user's events begin.
    counts = np.diff(offset)
    first = np.repeat(offset[:-1], counts)
    last = np.repeat(known[np.maximum(np.cumsum(counts) - 1, 0)] if len(known) else counts, counts)
    back = (last - np.minimum(np.maximum(known, first + 1), last)) // max_history  # windows counted from the newest
    fresh = np.ones(len(known), dtype=np.bool_)  # targets are in time order, so windows are runs of equal (user, back)
    fresh[1:] = (np.diff(first) != 0) | (np.diff(back) != 0)
    begins = np.flatnonzero(fresh)
    end = last[begins] - back[begins] * max_history
    return np.stack([np.maximum(first[begins], end - max_history), end, offset[0] + begins])


def build_epoch_batches(windows: TrainingWindows, batch_targets: int, rng: np.random.Generator) -> list[Rows]:
    """Divide windows into the batches of one epoch, of similar length and in random order.

    Args:
        windows: Training windows.
        batch_targets: Approximate number of targets of a batch.
        rng: Random generator.

    Returns:
        Window rows of each batch.
    """
    order = rng.permutation(len(windows))
    n_targets, length = windows.n_targets, windows.end - windows.start
    pool = np.cumsum(n_targets[order]) // (batch_targets * POOL_BATCHES)
    order = order[np.lexsort((length[order], pool))]
    batch = np.cumsum(n_targets[order]) // batch_targets
    batches = np.split(order, np.flatnonzero(np.diff(batch)) + 1)
    return [batches[row] for row in rng.permutation(len(batches))]


def collate_windows(windows: TrainingWindows, rows: Rows, *, query_time_known: bool) -> HistoryBatch:
    """Build a batch from some windows, with all their targets.

    Args:
        windows: Training windows.
        rows: Windows to include, (B,).
        query_time_known: Whether a state knows the time of its target, else the time of its last event.

    Returns:
        The batch.
    """
    start, end = windows.start[rows], windows.end[rows]
    position, mask = pad_ranges(start, end)
    counts = windows.n_targets[rows]
    row = np.repeat(np.arange(len(rows)), counts)
    target = windows.target[np.repeat(windows.first_target[rows], counts) + concat_ranges(counts)]
    state = windows.state[target]
    time = windows.histories.time[position]  # (B, T)
    query_time = np.concatenate([time[:, :1], time], axis=1)  # (B, T + 1)
    if query_time_known:
        query_time[row, state] = windows.histories.time[target]
    return HistoryBatch(
        history=torch.from_numpy(windows.histories.item[position]),
        history_mask=torch.from_numpy(mask),
        event_time=torch.from_numpy(time),
        query_time=torch.from_numpy(query_time),
        source=torch.from_numpy(row * query_time.shape[1] + state),
        target=torch.from_numpy(windows.histories.item[target]),
    )


def collate_queries(queries: Queries, max_history: int, *, query_time_known: bool) -> HistoryBatch:
    """Build a batch from queries: the last events of each, and the state that has seen them all.

    Args:
        queries: Queries, B of them.
        max_history: Maximum number of events of a history, T.
        query_time_known: Whether a state knows the query time, else the time of its last event.

    Returns:
        The batch.
    """
    position, mask = queries.last_positions(max_history)
    length = mask.sum(axis=1)
    time = _gather_or_pad(queries.histories.time, position)  # (B, T)
    query_time = np.concatenate([time[:, :1], time], axis=1)  # (B, T + 1)
    row = np.arange(len(queries))
    if query_time_known:
        query_time[row, length] = queries.time
    return HistoryBatch(
        history=torch.from_numpy(_gather_or_pad(queries.histories.item, position)),
        history_mask=torch.from_numpy(mask),
        event_time=torch.from_numpy(time),
        query_time=torch.from_numpy(query_time),
        source=torch.from_numpy(row * query_time.shape[1] + length),
        target=torch.from_numpy(queries.target.copy()),
    )


def _gather_or_pad(values: Rows, position: Rows) -> Rows:
    """Return `values[position]`, or zeros if there are no events at all."""
    return values[position] if len(values) else np.zeros_like(position)
