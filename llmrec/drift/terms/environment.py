"""What everyone is interested in just now: counts of events that fade, at several half-lives at once.

    c_h,i(t) = sum over events e of item i with time_e < t of 2^(-(t - time_e) / h)

The sums are kept as of a reference time, as 2^((time_e - reference) / h), so that an event costs O(H) and nothing else
has to be touched; they move to a later reference before a number grows too large.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmrec.errors import DataError
from llmrec.utils.arrays import MAX_EXPONENT, NO_TIME, ROUNDING, Arrays, Rows
from llmrec.utils.units import SECONDS_PER_DAY


class Environment:
    """Fading counts of N items at H half-lives, updated event by event; events may arrive late or out of order."""

    def __init__(self, n_items: int, half_lives_days: tuple[float, ...]) -> None:
        self.half_lives_days = half_lives_days
        self.rate = np.array([1 / (days * SECONDS_PER_DAY) for days in half_lives_days])  # (H,) halvings per second
        self.sums: NDArray[np.float64] = np.zeros((len(half_lives_days), n_items))  # as of `reference`
        self.reference: int | None = None
        self.newest: int | None = None

    def observe(self, item: Rows, time: Rows) -> None:
        """Count events (E,) of `item` rows at `time` seconds; an event given twice counts twice."""
        if not len(time):
            return
        newest = int(time.max())
        self.newest = newest if self.newest is None else max(self.newest, newest)
        self.reference = self._rebase_time(newest)
        for half_life, rate in enumerate(self.rate):
            np.add.at(self.sums[half_life], item, np.exp2((time - self.reference) * rate))

    def subtract(self, item: Rows, time: Rows) -> None:
        """Take back events (E,) that were counted: what is left is what the others add up to, to rounding, and nothing
        where there are none. The newest time stays the newest.
        """
        if self.reference is None:
            return
        for sums, rate in zip(self.sums, self.rate, strict=True):
            theirs = np.bincount(item, np.exp2((time - self.reference) * rate), len(sums))
            sums -= theirs
            sums[sums <= ROUNDING * theirs] = 0

    def with_events(self, item: Rows, time: Rows) -> Environment:
        """A copy that has counted more events."""
        other = copy(self)
        other.sums = self.sums.copy()
        other.observe(item, time)
        return other

    def _rebase_time(self, newest: int) -> int:
        """The time that sums are kept as of: `newest` to start with, and where numbers would grow too large."""
        if self.reference is None:
            return newest
        if (newest - self.reference) * self.rate.max() <= MAX_EXPONENT:
            return self.reference
        self.sums *= np.exp2(-(newest - self.reference) * self.rate)[:, None]
        return newest

    def grow_items(self, n_items: int) -> None:
        """Make room for `n_items` items, those there are among them."""
        self.sums = np.pad(self.sums, ((0, 0), (0, n_items - self.sums.shape[1])))

    def counts_at(self, time: int) -> NDArray[np.float64]:
        """(H, N) as of `time`, which must lie after every event that was counted.

        Raises:
            DataError: an event at or after `time` was counted: the answer would know the future.
        """
        if self.newest is None or self.reference is None:
            return self.sums.copy()
        if time <= self.newest:
            raise DataError(
                "environment", [f"asked for {time}, but events up to {self.newest} are counted; ask for a later time"]
            )
        faded: NDArray[np.float64] = self.sums * np.exp2(-(time - self.reference) * self.rate)[:, None]
        return faded

    def export_state(self) -> Arrays:
        """What `restore` goes on from, bit for bit; no copies."""
        times = [NO_TIME if time is None else time for time in (self.reference, self.newest)]
        return {"sums": self.sums, "times": np.array(times, dtype=np.int64)}

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Go on from what `state` gave, for as many items and the same half-lives."""
        self.sums = state["sums"].copy()
        self.reference, self.newest = (None if time == NO_TIME else int(time) for time in state["times"])
