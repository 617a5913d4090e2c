"""Rounding of numbers that are printed together with their sum."""

from __future__ import annotations

from collections.abc import Sequence


def round_to_total(values: Sequence[float], total: float, decimals: int) -> list[float]:
    """Round values so that they add up to their total as it is rounded.

    Each value is rounded to the nearest number; where these miss the total, those that were rounded furthest the other
    way move by one unit (the largest-remainder method). Zeros stay zero.

    Args:
        values: Summands.
        total: Their sum.
        decimals: Digits after the decimal point, at least 0.

    Returns:
        Rounded values, in the order given.

    Example:
        >>> round_to_total([33.33, 33.33, 33.34], 100.0, 0)
        [33.0, 33.0, 34.0]
        >>> round_to_total([0.0, 0.4, 0.4], 0.8, 0)
        [0.0, 1.0, 0.0]
        >>> round_to_total([0.4, 0.4, -0.8], 0.0, 0)
        [1.0, 0.0, -1.0]
    """
    scale = 10.0**decimals
    counts = [round(value * scale) for value in values]
    missing = round(total * scale) - sum(counts)
    step = 1 if missing > 0 else -1
    changeable = [index for index, value in enumerate(values) if value]
    order = sorted(changeable, key=lambda index: step * (counts[index] - values[index] * scale))
    for index in order[: abs(missing)]:
        counts[index] += step
    return [count / scale for count in counts]
