"""What everyone's events add up to, counted in batches: counting hundreds costs little more than counting one.

Who reads before a batch is full sees those that wait counted on a copy. Sums of floating-point numbers depend on their
order, and so they are, to the last bit, what the events make of them, whenever they were read, saved or restored.
"""

from __future__ import annotations

import numpy as np

from llmrec.drift.stream import StreamCounts
from llmrec.utils.arrays import Mask, Rows

MAX_PENDING = 512  # events that are not counted yet, but on a copy each time that counts are read
CHUNK_ROWS = 1 << 18  # events that are counted together: each makes a pair with everything in its window


class BufferedCounts:
    """world: with every full batch counted. makes_pairs: whether transitions are counted as well."""

    def __init__(self, counts: StreamCounts, makes_pairs: bool) -> None:
        self.world, self.makes_pairs = counts, makes_pairs
        self._waiting: list[tuple[int, int, int, bool]] = []
        self._ahead: StreamCounts | None = None  # with what waits

    def observe(self, user: int, item: int, time: int, late: bool) -> None:
        """late: it is older than its user's newest."""
        self._waiting.append((user, item, time, late))
        self._ahead = None
        if len(self._waiting) >= MAX_PENDING:
            self.flush()

    def observe_many(self, user: Rows, item: Rows, time: Rows, late: Mask) -> None:
        """Events (E,), after those that wait."""
        self.flush()
        for start in range(0, len(user), CHUNK_ROWS):
            chunk = slice(start, start + CHUNK_ROWS)
            self._count(user[chunk], item[chunk], time[chunk], late[chunk])

    def flush(self) -> None:
        """Count what waits, for good."""
        if self._waiting:
            self._count(*self._collect_columns())
            self._waiting.clear()
        self._ahead = None

    def invalidate(self) -> StreamCounts:
        """To be changed otherwise: what was read of it holds no longer."""
        self._ahead = None
        return self.world

    def flushed_counts(self) -> StreamCounts:
        """With every event counted."""
        if not self._waiting:
            return self.world
        if self._ahead is None:
            user, item, time, late = self._collect_columns()
            transitions = self.world.transitions
            if self.makes_pairs:
                transitions = transitions.with_events(user[~late], item[~late], time[~late])
            self._ahead = StreamCounts(self.world.environment.with_events(item, time), transitions)
        return self._ahead

    def pending_events(self) -> Rows:
        """(W, 4) user, item, time and whether late."""
        return np.array(self._waiting, dtype=np.int64).reshape(-1, 4)

    def restore(self, events: Rows, n_users: int, n_items: int) -> None:
        """Go on with what was `pending_events`; the world is restored by itself.

        Raises:
            ValueError: no events, or of users and items that there are not.
        """
        within = events.shape[1:] == (4,) and events.dtype == np.int64 and events.min(initial=0) >= 0
        if not (within and (events[:, 0] < n_users).all() and (events[:, 1] < n_items).all()):
            raise ValueError("what waits to be counted is no event of these users and items")
        self._waiting = [(user, item, time, bool(late)) for user, item, time, late in events.tolist()]
        self._ahead = None

    def _collect_columns(self) -> tuple[Rows, Rows, Rows, Mask]:
        user, item, time, late = np.array(self._waiting, dtype=np.int64).T
        return user, item, time, late == 1

    def _count(self, user: Rows, item: Rows, time: Rows, late: Mask) -> None:
        self.world.environment.observe(item, time)
        if self.makes_pairs:  # within a batch they go by time, where late is what arrived after a newer one
            self.world.transitions.observe(user[~late], item[~late], time[~late])
