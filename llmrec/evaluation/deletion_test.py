"""Whether explanations name what matters: an item's score must fall further without the events that are named.

The deletion test of DeYoung et al. 2020 (arXiv:1911.03429; there: comprehensiveness), with others' events as they are:
the history is asked about at the same moment, less the n events that the explanation puts first, less n random ones,
and less the n newest, which would be a fair guess without any explanation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from llmrec.evaluation.intervals import Difference, Interval, bootstrap_difference, bootstrap_mean

DRAWS = 8  # of n random events, where there are more than one

# Scores of an item for each of several histories.
ScoreOf = Callable[[Sequence[Sequence[Any]], Any], Sequence[float]]


class ExplainedItem(NamedTuple):
    """A history, the item whose score was explained, and the places of the events, those that say most first."""

    history: Sequence[Any]
    item: Any
    strongest: Sequence[int]


@dataclass(frozen=True)
class DeletionResult:
    """How far scores fall without n events: mean over the explained, with 95% intervals from a bootstrap of them."""

    n_deleted: int
    n_explained: int
    named: Interval
    random: Interval
    newest: Interval
    named_over_random: Difference
    named_over_newest: Difference

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> DeletionResult:
        """From the JSON of a report."""
        falls = Interval(*record["named"]), Interval(*record["random"]), Interval(*record["newest"])
        gains = Difference(*record["named_over_random"]), Difference(*record["named_over_newest"])
        return cls(record["n_deleted"], record["n_explained"], *falls, *gains)


def run_deletion_test(
    explained: Sequence[ExplainedItem], score: ScoreOf, n_deleted: int, seed: int = 0
) -> DeletionResult | None:
    """Over those whose history has more than `n_deleted` events; None where nobody's has.

    A random event is each of them in turn, and several are the mean of a few draws.
    """
    able = [each for each in explained if len(each.history) > n_deleted]
    if not able:
        return None
    rng = np.random.default_rng(seed)
    drops = np.array([_score_drops(each, score, n_deleted, rng) for each in able])  # (Q, 3)
    named, random, newest = drops.T
    case = np.arange(len(able))
    falls = bootstrap_mean(named, case), bootstrap_mean(random, case), bootstrap_mean(newest, case)
    gains = bootstrap_difference(named, random, case), bootstrap_difference(named, newest, case)
    return DeletionResult(n_deleted, len(able), *falls, *gains)


def _score_drops(
    explained: ExplainedItem, score: ScoreOf, n_deleted: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """(3,) how far the score falls without the named, random and newest events."""
    events = np.arange(len(explained.history))
    if n_deleted == 1:
        random = [events[[place]] for place in events]
    else:
        random = [rng.choice(events, n_deleted, replace=False) for _ in range(DRAWS)]
    deleted = [events[:0], np.array(explained.strongest[:n_deleted]), events[-n_deleted:], *random]
    kept = [[explained.history[place] for place in np.setdiff1d(events, less).tolist()] for less in deleted]
    whole, named, newest, *others = score(kept, explained.item)
    return np.array([whole - named, whole - np.mean(others), whole - newest])
