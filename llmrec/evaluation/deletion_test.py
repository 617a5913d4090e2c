"""Deletion test of explanations: an item's score must drop more without the events that are named.

Source:
    DeYoung et al. 2020, arXiv:1911.03429, where it is called comprehensiveness.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from llmrec.evaluation.intervals import Difference, Interval, bootstrap_difference, bootstrap_mean

# Events of other users stay. The item is scored at the same time for the history without the n events that the
# explanation ranks first, without n random ones, and without the n newest, a fair guess without any explanation.
DRAWS = 8  # of n random events, if n is more than one

# Scores of one item for each history.
ScoreOf = Callable[[Sequence[Sequence[Any]], Sequence[Any]], Sequence[float]]


class ExplainedItem(NamedTuple):
    """Explanation of the score of an item for a history."""

    history: Sequence[Any]
    """Events of the history."""
    item: Any
    """The item."""
    strongest: Sequence[int]
    """Positions of the events in the history, most important first."""


@dataclass(frozen=True)
class DeletionResult:
    """Mean drop of scores without n events, with 95% intervals from a bootstrap over explained items."""

    n_deleted: int
    """Number of deleted events."""
    n_explained: int
    """Number of explained items."""
    named: Interval
    """Drop without the events that the explanation ranks first."""
    random: Interval
    """Drop without random events."""
    newest: Interval
    """Drop without the newest events."""
    named_over_random: Difference
    """Difference of the drops without named and without random events."""
    named_over_newest: Difference
    """Difference of the drops without named and without the newest events."""

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> DeletionResult:
        """Read a result from the JSON of a report.

        Args:
            record: Fields by name.

        Returns:
            The result.
        """
        falls = Interval(*record["named"]), Interval(*record["random"]), Interval(*record["newest"])
        gains = Difference(*record["named_over_random"]), Difference(*record["named_over_newest"])
        return cls(record["n_deleted"], record["n_explained"], *falls, *gains)


def run_deletion_test(
    explained: Sequence[ExplainedItem], score: ScoreOf, n_deleted: int, *, seed: int = 0
) -> DeletionResult | None:
    """Delete events from histories and measure the drop of the scores.

    Args:
        explained: Explained items; those with at most `n_deleted` events are left out.
        score: Function that scores one item for each history.
        n_deleted: Number of events to delete.
        seed: Seed of the random events.

    Returns:
        The mean drops, or None if no history is long enough.
    """
    able = [each for each in explained if len(each.history) > n_deleted]
    if not able:
        return None
    # For one random event, all are deleted in turn; for several, the drop is the mean of a few draws.
    rng = np.random.default_rng(seed)
    shortened = [_delete_events(each, n_deleted, rng) for each in able]
    items = [each.item for each, histories in zip(able, shortened, strict=True) for _ in histories]
    scores = np.array(score([history for histories in shortened for history in histories], items))
    ends = np.cumsum([len(histories) for histories in shortened])
    named, random, newest = np.array([_compute_drops(own) for own in np.split(scores, ends[:-1])]).T  # (3, Q)
    case = np.arange(len(able))
    falls = bootstrap_mean(named, case), bootstrap_mean(random, case), bootstrap_mean(newest, case)
    gains = bootstrap_difference(named, random, case), bootstrap_difference(named, newest, case)
    return DeletionResult(n_deleted, len(able), *falls, *gains)


def _delete_events(explained: ExplainedItem, n_deleted: int, rng: np.random.Generator) -> list[list[Any]]:
    """Return the history whole, without the named events, without the newest, and several times without random ones."""
    events = np.arange(len(explained.history))
    if n_deleted == 1:
        random = [events[[place]] for place in events]
    else:
        random = [rng.choice(events, n_deleted, replace=False) for _ in range(DRAWS)]
    deleted = [events[:0], np.array(explained.strongest[:n_deleted]), events[-n_deleted:], *random]
    return [[explained.history[place] for place in np.setdiff1d(events, less).tolist()] for less in deleted]


def _compute_drops(scores: NDArray[np.float64]) -> tuple[float, float, float]:
    """Return the drops without named, random and newest events, from the scores of `_delete_events`."""
    whole, named, newest = scores[:3].tolist()
    return whole - named, whole - float(np.mean(scores[3:])), whole - newest
