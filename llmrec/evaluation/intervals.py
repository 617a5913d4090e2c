"""How sure a mean is: the bootstrap, with users as the unit that is drawn.

Queries of one user are alike, so that drawing single queries would give intervals that are too narrow.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from llmrec.evaluation.metrics import Values
from llmrec.utils.arrays import Rows

_CELLS_AT_ONCE = 4_000_000  # draws held in memory together: 32 MB


class Interval(NamedTuple):
    """A mean with its 95% interval; low and high are NaN with fewer than two users."""

    value: float
    low: float
    high: float


class Difference(NamedTuple):
    """first - second with its 95% interval, and the two-sided bootstrap p (never below 2 / (samples + 1))."""

    difference: float
    low: float
    high: float
    p: float


def bootstrap_means(values: Values, user: Rows, samples: int = 1000, seed: int = 0) -> Values:
    """Means of `values` (Q, C) in each of `samples` redraws of the users (with all their queries): (samples, C).

    All columns see the same draws, so that the difference of two columns is a paired difference.
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


def bootstrap_mean(values: Values, user: Rows, samples: int = 1000, seed: int = 0) -> Interval:
    """Mean of `values` (Q,) over queries of the users `user` (Q,), with its 95% interval."""
    return interval_from_means(values, bootstrap_means(values[:, None], user, samples, seed)[:, 0], user)


def bootstrap_difference(first: Values, second: Values, user: Rows, samples: int = 1000, seed: int = 0) -> Difference:
    """How much better `first` is than `second`, both (Q,) on the same queries."""
    gain = first - second
    return difference_from_means(gain, bootstrap_means(gain[:, None], user, samples, seed)[:, 0], user)


def interval_from_means(values: Values, means: Values, user: Rows) -> Interval:
    """The interval of `values` (Q,) from their bootstrap means (samples,)."""
    if not _has_two(user):
        return Interval(float(values.mean()), np.nan, np.nan)
    low, high = np.percentile(means, [2.5, 97.5])
    return Interval(float(values.mean()), float(low), float(high))


def difference_from_means(gain: Values, means: Values, user: Rows) -> Difference:
    """The paired difference of `gain` (Q,), per query, from its bootstrap means (samples,)."""
    if not _has_two(user):
        return Difference(float(gain.mean()), np.nan, np.nan, np.nan)
    rarer = min(np.count_nonzero(means <= 0), np.count_nonzero(means >= 0))
    p = min(1.0, 2 * (rarer + 1) / (len(means) + 1))
    return Difference(*interval_from_means(gain, means, user), p)


def _draw_samples(rng: np.random.Generator, samples: int, n_users: int) -> Values:
    """(samples, U) how often each user is drawn: multinomial, by counting uniform draws (much the faster way)."""
    drawn = rng.integers(0, n_users, (samples, n_users)) + n_users * np.arange(samples)[:, None]
    return np.bincount(drawn.ravel(), minlength=samples * n_users).reshape(samples, n_users).astype(np.float64)


def _has_two(user: Rows) -> bool:
    return bool(np.any(user != user[:1]))
