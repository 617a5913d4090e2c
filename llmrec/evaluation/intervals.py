"""Bootstrap intervals of means over queries, with users as the unit that is drawn."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from llmrec.evaluation.metrics import Values
from llmrec.utils.arrays import Rows

# Queries of one user are similar, so that drawing single queries would give intervals that are too narrow.
_CELLS_AT_ONCE = 4_000_000  # draws in memory at a time: 32 MB


class Interval(NamedTuple):
    """Mean with its 95% interval."""

    value: float
    """Mean."""
    low: float
    """Lower end; NaN with fewer than two users."""
    high: float
    """Upper end; NaN with fewer than two users."""


class Difference(NamedTuple):
    """Paired difference, first minus second, with its 95% interval."""

    difference: float
    """Mean difference."""
    low: float
    """Lower end; NaN with fewer than two users."""
    high: float
    """Upper end; NaN with fewer than two users."""
    p: float
    """Two-sided bootstrap p value, never below 2 / (samples + 1)."""


def bootstrap_means(values: Values, user: Rows, *, samples: int = 1000, seed: int = 0) -> Values:
    """Compute means in redraws of the users, each with all their queries.

    Args:
        values: Values of each query, (Q, C).
        user: User of each query, (Q,).
        samples: Number of redraws.
        seed: Seed of the redraws.

    Returns:
        Means, (samples, C). All columns use the same draws, so that the difference of two columns is a paired
        difference.
    """
    distinct, row = np.unique(user, return_inverse=True)
    n_users = len(distinct)
    columns = np.column_stack([np.ones(len(row)), values])
    sums = np.column_stack([np.bincount(row, column, minlength=n_users) for column in columns.T])  # (U, 1 + C)
    rng = np.random.default_rng(seed)
    means: list[Values] = []
    chunk = max(1, _CELLS_AT_ONCE // max(n_users, 1))
    for done in range(0, samples, chunk):
        drawn = _draw_samples(rng, min(chunk, samples - done), n_users) @ sums  # (chunk, 1 + C)
        means.append(drawn[:, 1:] / drawn[:, :1])
    return np.concatenate(means)


def bootstrap_mean(values: Values, user: Rows, *, samples: int = 1000, seed: int = 0) -> Interval:
    """Compute a mean over queries with its 95% interval.

    Args:
        values: Values of each query, (Q,).
        user: User of each query, (Q,).
        samples: Number of redraws.
        seed: Seed of the redraws.

    Returns:
        Mean and interval.
    """
    return interval_from_means(values, bootstrap_means(values[:, None], user, samples=samples, seed=seed)[:, 0], user)


def bootstrap_difference(
    first: Values, second: Values, user: Rows, *, samples: int = 1000, seed: int = 0
) -> Difference:
    """Compute the paired difference of two values per query with its 95% interval.

    Args:
        first: Values of each query, (Q,).
        second: Values to subtract, (Q,).
        user: User of each query, (Q,).
        samples: Number of redraws.
        seed: Seed of the redraws.

    Returns:
        Difference, interval and p value.
    """
    gain = first - second
    return difference_from_means(gain, bootstrap_means(gain[:, None], user, samples=samples, seed=seed)[:, 0], user)


def interval_from_means(values: Values, means: Values, user: Rows) -> Interval:
    """Compute the interval of a mean from its bootstrap means.

    Args:
        values: Values of each query, (Q,).
        means: Bootstrap means, (samples,).
        user: User of each query, (Q,).

    Returns:
        Mean and interval.
    """
    if not _has_two(user):
        return Interval(float(values.mean()), np.nan, np.nan)
    low, high = np.percentile(means, [2.5, 97.5])
    return Interval(float(values.mean()), float(low), float(high))


def difference_from_means(gain: Values, means: Values, user: Rows) -> Difference:
    """Compute the interval and p value of a paired difference from its bootstrap means.

    Args:
        gain: Difference of each query, (Q,).
        means: Bootstrap means, (samples,).
        user: User of each query, (Q,).

    Returns:
        Difference, interval and p value.
    """
    if not _has_two(user):
        return Difference(float(gain.mean()), np.nan, np.nan, np.nan)
    rarer = min(np.count_nonzero(means <= 0), np.count_nonzero(means >= 0))
    p = min(1.0, 2 * (rarer + 1) / (len(means) + 1))
    return Difference(*interval_from_means(gain, means, user), p)


def _draw_samples(rng: np.random.Generator, samples: int, n_users: int) -> Values:
    """Draw how often each user occurs in each sample (samples, U), a multinomial."""
    # Counting uniform draws is much faster than drawing from the multinomial.
    drawn = rng.integers(0, n_users, (samples, n_users)) + n_users * np.arange(samples)[:, None]
    return np.bincount(drawn.ravel(), minlength=samples * n_users).reshape(samples, n_users).astype(np.float64)


def _has_two(user: Rows) -> bool:
    return bool(np.any(user != user[:1]))
