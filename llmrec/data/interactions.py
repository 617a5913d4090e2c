"""The event log: who touched what, and when. Validated once, sorted once, never mutated."""

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
    """E events sorted by time; events of equal time keep the order of the log.

    user: (E,) row of the user, item: (E,) row of the item in the catalog,
    time: (E,) seconds since the epoch, UTC.
    """

    user: Rows
    item: Rows
    time: Rows

    def __post_init__(self) -> None:
        lengths = {len(self.user), len(self.item), len(self.time)}
        if len(lengths) != 1:
            raise DataError("interactions", [f"columns of unequal lengths {sorted(lengths)}; give one value per event"])
        if np.any(self.time[1:] < self.time[:-1]):
            raise DataError("interactions", ["events are not in time order; build them with Interactions.sort"])

    @classmethod
    def sort(
        cls, user: NDArray[np.integer], item: NDArray[np.integer], time: Rows, order: Rows | None = None
    ) -> Interactions:
        """Stable sort by time, then by `order` (E,) where the log has a column for it."""
        by_time = np.argsort(time, kind="stable") if order is None else np.lexsort((order, time))
        return cls(*(column[by_time].astype(np.int64, copy=False) for column in (user, item, time)))

    def __len__(self) -> int:
        return len(self.time)

    def take(self, which: Rows | Mask) -> Interactions:
        """The events at `which`: a mask (E,) or increasing row numbers."""
        return Interactions(self.user[which], self.item[which], self.time[which])
