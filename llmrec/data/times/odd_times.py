"""Times of a log that are sound and unlikely: after now, far from all others, or of a time without logs."""

from __future__ import annotations

import time

import numpy as np

from llmrec.data.times.timestamps import format_iso
from llmrec.utils.arrays import Rows
from llmrec.utils.units import SECONDS_PER_DAY

YEAR = 365 * SECONDS_PER_DAY
FEW = 3  # events at one end, or one in a thousand, that may be far from all others
ENOUGH = 20  # events from which on an end differs clearly from the rest
EARLIEST = 631_152_000  # 1990
EXAMPLES = 3


def describe_odd_times(times: Rows, now: float | None = None) -> tuple[str, ...]:
    """Describe the unlikely times of a log.

    Args:
        times: Seconds since the epoch in order, (E,).
        now: Seconds since the epoch; None for the clock.

    Returns:
        One line for each kind of them.
    """
    lines = []
    after = len(times) - int(np.searchsorted(times, int(time.time() if now is None else now), side="right"))
    if after:
        lines.append(f"{_count(after)} after now ({_show(times[len(times) - after :])})")
    first, last = find_far_ends(times)
    for far, side, rest in ((times[:first], "before", times[first:]), (times[last:], "after", times[:last])):
        if len(far):
            gap = (rest[0] - far[-1] if side == "before" else far[0] - rest[-1]) / YEAR
            lines.append(
                f"{_count(len(far))} far from all others ({_show(far)}), {gap:,.0f} years {side} the rest; "
                "correct or remove them, since counts fade with time"
            )
    median = int(times[len(times) // 2]) if len(times) >= ENOUGH else EARLIEST
    if median < EARLIEST:
        lines.append(
            f"their median is {format_iso(median)[:10]}, which is before any log; check time_unit and "
            "time_format, or set times: order_only if they are places in each user's order"
        )
    return tuple(lines)


def find_far_ends(times: Rows) -> tuple[int, int]:
    """Find a few events at either end that are farther from the others than those last.

    Args:
        times: Seconds since the epoch in order, (E,).

    Returns:
        Position of the first and one past the last event that is near the others.
    """
    n_events = len(times)
    few = max(FEW, n_events // 1000)
    if n_events < ENOUGH:
        return 0, n_events
    core = times[few : n_events - few]
    limit = max(int(core[-1] - core[0]), YEAR)
    before = np.flatnonzero(np.diff(times[: few + 1]) > limit)
    after = np.flatnonzero(np.diff(times[n_events - few - 1 :]) > limit)
    first = int(before[-1]) + 1 if len(before) else 0
    last = n_events - few + int(after[0]) if len(after) else n_events
    return first, last


def _count(number: int) -> str:
    return f"{number:,} event is" if number == 1 else f"{number:,} events are"


def _show(times: Rows) -> str:
    shown = ", ".join(format_iso(int(one)) for one in times[:EXAMPLES])
    return shown + (", ..." if len(times) > EXAMPLES else "")
