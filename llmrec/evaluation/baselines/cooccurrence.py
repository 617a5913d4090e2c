"""Counts of users who interacted with two items, updated in time order and optionally decaying.

The cell of user u and item i is a_ui = 2^(-(now - t_ui) / (2 half_life)) with t_ui the first time that u interacted
with i (1 without decay, 0 if u never did), and

    n_ij = sum_u a_ui a_uj,        n_i = sum_u a_ui^2,

so that a pair decays by the mean age of its two events, the count of an item with the half-life itself, and
n_ij / sqrt(n_i n_j) stays a cosine, at most 1. All cells decay by the same factor: sums are stored as of a reference
time, and decay costs nothing until they are read. Pairs are stored in a few sparse tables of decreasing sizes, so that
new ones need not be written to the largest (the logarithmic method of Bentley & Saxe 1980,
doi:10.1016/0196-6774(80)90015-2).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from llmrec.data.histories import Histories
from llmrec.data.interactions import Interactions
from llmrec.utils.arrays import MAX_EXPONENT, Rows, concat_ranges, merge_small_tables
from llmrec.utils.units import SECONDS_PER_DAY

MAX_EARLIER = 200  # distinct items of a user that a new one is paired with, so that the work for a user is linear
_EVENTS_AT_ONCE = 20_000
_FADED = 1e-30  # lower counts are dropped: they are rounding errors


@dataclass(frozen=True)
class FirstInteractions:
    """First event of each user with each item, and the items that the user had interacted with before."""

    log: Interactions
    """These E events in time order."""
    histories: Histories
    """The same events by user."""
    position: Rows
    """Position of each event in `histories`, (E,)."""

    @classmethod
    def from_log(cls, log: Interactions, n_users: int, n_items: int) -> FirstInteractions:
        """Select the first events of a log.

        Args:
            log: Events in time order.
            n_users: Number of users.
            n_items: Number of items of the catalog.

        Returns:
            The first events.
        """
        _, first = np.unique(log.user * n_items + log.item, return_index=True)
        touches = log.take(np.sort(first))
        histories = Histories.from_interactions(touches, n_users)
        position = np.empty_like(histories.event)
        position[histories.event] = np.arange(len(touches))
        return cls(touches, histories, position)

    def list_pairs(self, new: slice) -> tuple[Rows, Rows]:
        """Pair events with up to MAX_EARLIER events of the same user before them.

        Args:
            new: Range of events.

        Returns:
            Positions of the later and the earlier event of each pair, (P,) each.
        """
        position = self.position[new]
        start = np.maximum(self.histories.offset[self.log.user[new]], position - MAX_EARLIER)
        earlier = position - start
        return np.repeat(position, earlier), np.repeat(start, earlier) + concat_ranges(earlier)


class CooccurrenceCounts:
    """Counts n_ij and n_i over N items that include every event before `moment` and none at or after it.

    `moment` is in seconds, None before the first `count_until`, and never goes back.

    Args:
        touches: First events of each user with each item.
        n_items: Number of items of the catalog.
        half_life_days: Half-life of the counts; None for no decay.
    """

    def __init__(self, touches: FirstInteractions, n_items: int, *, half_life_days: float | None = None) -> None:
        self.touches, self.n_items = touches, n_items
        self.rate = 0.0 if half_life_days is None else 1 / (half_life_days * SECONDS_PER_DAY)  # halvings per second
        self.moment: int | None = None
        self._reference: int | None = None
        self._tables: list[sparse.csr_array] = []  # (N, N) each, symmetric; their sum is n_ij at the reference time
        self._items: NDArray[np.float64] = np.zeros(n_items)  # n_i at the reference time
        self._n_counted = 0

    def count_until(self, moment: int) -> None:
        """Count the events before a time, in chunks, so that the pairs of a long log fit into memory.

        Args:
            moment: Time in seconds.
        """
        end = int(self.touches.log.time.searchsorted(moment))
        for start in range(self._n_counted, end, _EVENTS_AT_ONCE):
            self._count(slice(start, min(start + _EVENTS_AT_ONCE, end)))
        self._n_counted, self.moment = end, moment

    def get_rows(self, items: Rows) -> sparse.csr_array:
        """Return n_ij of some items with all items.

        Args:
            items: Item rows, (R,).

        Returns:
            Counts, (R, N) float32.
        """
        found = sparse.csr_array((len(items), self.n_items))
        for table in reversed(self._tables):  # the largest last, because each sum copies the one before
            found = found + table[items]
        found.data *= self._decay_factor()
        found.data[found.data < _FADED] = 0.0
        found.eliminate_zeros()
        return found.astype(np.float32)

    def item_counts(self) -> NDArray[np.float32]:
        """Return the decayed counts n_i of all items.

        Returns:
            Counts, (N,).
        """
        return (self._items * self._decay_factor()).astype(np.float32)

    def _decay_factor(self) -> float:
        if self._reference is None or self.moment is None:
            return 1.0
        return float(np.exp2((self._reference - self.moment) * self.rate))

    def _count(self, new: slice) -> None:
        log, histories = self.touches.log.take(np.arange(new.start, new.stop)), self.touches.histories
        reference = self._rebase(int(log.time[-1]))
        np.add.at(self._items, log.item, np.exp2((log.time - reference) * self.rate))
        later, earlier = self.touches.list_pairs(new)
        age = (histories.time[later] - reference) / 2 + (histories.time[earlier] - reference) / 2
        one, other = histories.item[later], histories.item[earlier]
        pair = np.concatenate([one, other]), np.concatenate([other, one])
        self._tables.append(sparse.csr_array((np.tile(np.exp2(age * self.rate), 2), pair), shape=(self.n_items,) * 2))
        merge_small_tables(self._tables)

    def _rebase(self, newest: int) -> int:
        """Return the reference time, moved to the newest event if numbers would grow too large."""
        if self._reference is not None and (newest - self._reference) * self.rate <= MAX_EXPONENT:
            return self._reference
        if self._reference is not None:
            faded = float(np.exp2((self._reference - newest) * self.rate))
            self._tables, self._items = [table * faded for table in self._tables], self._items * faded
        self._reference = newest
        return newest
