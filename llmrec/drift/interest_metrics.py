"""Measures of how interests move, over plain arrays: divergence, lift, and similarity by lag.

E events, N items, K states, P periods. An item is evidence for the states by p(k|j), a row of `evidence` (N, K).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from llmrec.data.histories import Histories
from llmrec.utils.arrays import Rows
from llmrec.utils.units import SECONDS_PER_DAY

Numbers = NDArray[np.float64]

LAG_EDGES_DAYS = (0, 1, 7, 14, 30, 60, 90, 180, 365, 730, 1460, 36_500)
MIN_PAIRS = 200  # min pairs of a lag that is shown
NEAR_EVENTS = 200  # events before or after that count as the same time


def jensen_shannon_divergence(p: Numbers, q: Numbers) -> Numbers:
    """Compute the Jensen-Shannon divergence in bits of distributions: (..., K) -> (...).

    It is H((p + q) / 2) - (H(p) + H(q)) / 2.

    Args:
        p: Distributions, (..., K).
        q: Distributions, (..., K).

    Returns:
        Divergence in bits, (...).

    >>> float(jensen_shannon_divergence(np.array([1.0, 0.0]), np.array([0.0, 1.0])))  # nothing in common: one bit
    1.0
    >>> round(float(jensen_shannon_divergence(np.array([0.5, 0.5]), np.array([1.0, 0.0]))), 3)  # H(.75, .25) - .5
    0.311
    """

    def entropy(of: Numbers) -> Numbers:
        bits: Numbers = -(of * np.log2(np.where(of > 0, of, 1.0))).sum(-1)
        return bits

    return entropy((p + q) / 2) - (entropy(p) + entropy(q)) / 2


def mean_interest_by_period(item: Rows, period: Rows, n_periods: int, evidence: Numbers) -> Numbers:
    """Average p(k|j) over the events of each period.

    Args:
        item: Item row of each event, (E,).
        period: Period of each event, (E,).
        n_periods: P.
        evidence: p(k|j), (N, K).

    Returns:
        Mean interest, (P, K).

    >>> evidence = np.array([[1.0, 0.0], [0.5, 0.5]])
    >>> mean_interest_by_period(np.array([0, 1, 1]), np.array([0, 0, 1]), 2, evidence).tolist()
    [[0.75, 0.25], [0.5, 0.5]]
    """
    counts = sparse.csr_array((np.ones(len(item)), (period, item)), shape=(n_periods, len(evidence)))
    totals: Numbers = counts @ evidence
    return totals / np.bincount(period, minlength=n_periods)[:, None]


def shuffled_divergence(
    item: Rows, period: Rows, n_periods: int, evidence: Numbers, *, n_shuffles: int = 40
) -> Numbers:
    """Compute the divergence between successive periods if events were assigned to periods at random.

    Each period keeps its number of events, so that the divergence is that of chance alone.

    Args:
        item: Item row of each event, (E,).
        period: Period of each event, (E,).
        n_periods: P.
        evidence: p(k|j), (N, K).
        n_shuffles: Random assignments.

    Returns:
        Divergence in bits, (n_shuffles, P - 1).
    """
    rng = np.random.default_rng(0)
    shuffles = (mean_interest_by_period(rng.permutation(item), period, n_periods, evidence) for _ in range(n_shuffles))
    return np.stack([jensen_shannon_divergence(interest[:-1], interest[1:]) for interest in shuffles])


def transition_lift(transition: Numbers, share: Numbers) -> Numbers:
    """Compute the lift of each move over the mean of moves from other states to the same one.

    The lift is M_kl over sum_k s_k M_kl / (1 - s_l), the mean over the states other than l. It is 1 where moves from k
    lead to l as often as moves from elsewhere, and 0 on the diagonal.

    Args:
        transition: M, (K, K).
        share: Share s of each state, (K,).

    Returns:
        Lifts, (K, K).

    >>> transition = np.array([[0.0, 0.9, 0.1], [0.5, 0.0, 0.5], [0.2, 0.8, 0.0]])
    >>> transition_lift(transition, np.array([0.5, 0.25, 0.25])).round(2)[0]  # .9 / ((.5 * .9 + .25 * .8) / .75)
    array([0.  , 1.04, 0.43])
    """
    arrivals = share @ transition / (1 - share).clip(min=1e-12)
    lifted: Numbers = transition / arrivals.clip(min=1e-12)
    return lifted


def order_by_similarity(directions: Numbers) -> list[int]:
    """Order K states so that similar ones are next to each other: the leaves of a tree of cosines.

    Args:
        directions: Of the states, (K, D).

    Returns:
        The states in order.

    >>> order_by_similarity(np.array([[1.0, 0.0], [0.0, 1.0], [0.9, 0.1], [0.1, 0.9]])) in ([0, 2, 3, 1], [1, 3, 2, 0])
    True
    """
    from scipy.cluster.hierarchy import leaves_list, linkage

    if len(directions) < 3:
        return list(range(len(directions)))
    unit = directions / np.linalg.norm(directions, axis=1, keepdims=True).clip(min=1e-12)
    return [int(leaf) for leaf in leaves_list(linkage(unit, "average", optimal_ordering=True))]


class SimilarityByLag(NamedTuple):
    """Similarity of a user's events by lag."""

    lag_days: Numbers
    """Mean lag of each bin."""
    excess: Numbers
    """sum_k p(k|i) p(k|j) of two events of a user, minus that of events of two users."""
    n_pairs: Rows
    """Pairs of events in each bin."""


def similarity_by_lag(histories: Histories, evidence: Numbers, *, n_pairs: int = 200_000) -> SimilarityByLag:
    """Measure by lag how similar a user's events are in states, beyond chance.

    An event is compared with an earlier one of its user, drawn evenly, and with one of another user at the time of that
    earlier one, since what all users wanted then is not an interest of this user.

    Args:
        histories: Of all users.
        evidence: p(k|j), (N, K).
        n_pairs: Pairs to draw.

    Returns:
        Bins with enough pairs.
    """
    rng = np.random.default_rng(0)
    user, ordinal = histories.user, np.arange(len(histories.item))
    first = histories.offset[user]
    later = np.flatnonzero(ordinal > first)
    if not len(later):
        return SimilarityByLag(np.zeros(0), np.zeros(0), np.zeros(0, np.int64))
    later = rng.choice(later, n_pairs)
    earlier = first[later] + (rng.random(n_pairs) * (later - first[later])).astype(np.int64)
    other = _sample_nearby_events(histories.time, earlier, rng)
    fair = user[other] != user[later]
    here = evidence[histories.item[later]]
    own = (here * evidence[histories.item[earlier]]).sum(1)
    others = (here * evidence[histories.item[other]]).sum(1)
    lag = (histories.time[later] - histories.time[earlier]) / SECONDS_PER_DAY
    position, n_bins = np.digitize(lag, LAG_EDGES_DAYS) - 1, len(LAG_EDGES_DAYS) - 1
    pairs = np.bincount(position, minlength=n_bins)
    expected = np.bincount(position[fair], others[fair], n_bins) / np.bincount(position[fair], minlength=n_bins).clip(
        min=1
    )
    excess = np.bincount(position, own, n_bins) / pairs.clip(min=1) - expected
    shown = pairs >= min(MIN_PAIRS, n_pairs)
    return SimilarityByLag((np.bincount(position, lag, n_bins) / pairs.clip(min=1))[shown], excess[shown], pairs[shown])


def half_life_from_curve(lag_days: Numbers, excess: Numbers) -> float | None:
    """Find the days after which the excess is half of that at the first lag.

    The excess is interpolated by lines over log(1 + days).

    Args:
        lag_days: Lags in order.
        excess: Similarity at each lag.

    Returns:
        Days, or None if there is no excess or it does not fall so far.

    >>> half_life_from_curve(np.array([0.0, 3.0, 15.0]), np.array([0.4, 0.3, 0.1]))  # .2 half way from log 4 to log 16
    7.0
    """
    if not len(excess) or excess[0] <= 0 or not (below := np.flatnonzero(excess <= excess[0] / 2)).size:
        return None
    right = int(below[0])
    share = (excess[right - 1] - excess[0] / 2) / (excess[right - 1] - excess[right])
    before, after = np.log1p(lag_days[right - 1 : right + 1])
    return round(float(np.expm1(before + share * (after - before))), 6)


def _sample_nearby_events(time: Rows, event: Rows, rng: np.random.Generator) -> Rows:
    """Draw an event of the log for each `event`, at most NEAR_EVENTS before or after it."""
    order = np.argsort(time, kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    reach = min(NEAR_EVENTS, len(order) - 1)
    away = rng.integers(1, reach + 1, len(event)) * rng.choice([-1, 1], len(event))
    position = rank[event] + away
    inside = (position >= 0) & (position < len(order))
    return np.asarray(order[np.where(inside, position, rank[event] - away).clip(0, len(order) - 1)])
