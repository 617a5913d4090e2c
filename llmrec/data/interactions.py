"""Event log: one (user, item, time) row per event, validated and sorted once and never changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from llmrec.errors import DataError
from llmrec.utils.arrays import Mask, Rows

Ties = Literal["strict", "file_order"]


@dataclass(frozen=True, slots=True)
class Interactions:
    """E events sorted by time; events of equal time keep the order of the log."""

    user: Rows
    """User row of each event, (E,)."""
    item: Rows
    """Catalog row of each event, (E,)."""
    time: Rows
    """Seconds since the epoch in UTC, (E,)."""

    def __post_init__(self) -> None:
        lengths = {len(self.user), len(self.item), len(self.time)}
        if len(lengths) != 1:
            raise DataError(
                "interactions", [f"columns of unequal lengths {sorted(lengths)}. Give one value per event."]
            )
        if np.any(self.time[1:] < self.time[:-1]):
            raise DataError("interactions", ["events are not in time order. Build them with Interactions.sort."])

    @classmethod
    def sort(
        cls, user: NDArray[np.integer], item: NDArray[np.integer], time: Rows, *, order: Rows | None = None
    ) -> Interactions:
        """Sort events by time; the sort is stable.

        Args:
            user: User row of each event, (E,).
            item: Catalog row of each event, (E,).
            time: Seconds since the epoch in UTC, (E,).
            order: Order of events of equal time, (E,); None for the order of the log.

        Returns:
            The sorted events.
        """
        by_time = np.argsort(time, kind="stable") if order is None else np.lexsort((order, time))
        return cls(*(column[by_time].astype(np.int64, copy=False) for column in (user, item, time)))

    def __len__(self) -> int:
        return len(self.time)

    def take(self, which: Rows | Mask) -> Interactions:
        """Select some of the events.

        Args:
            which: A mask, (E,), or increasing rows.

        Returns:
            The selected events.
        """
        return Interactions(self.user[which], self.item[which], self.time[which])
