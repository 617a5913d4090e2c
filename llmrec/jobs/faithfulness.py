"""Measure how faithful explanations are by deleting the events that they name.

All users are followed up to a moment, such as the start of the test window. Users who return after it are sampled, and
the first recommendation of each at that moment is explained.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from llmrec.data.log import Log
from llmrec.evaluation.deletion_test import DeletionResult, ExplainedItem, run_deletion_test
from llmrec.recommender import Recommender
from llmrec.utils.timing import timer

MIN_EVENTS = 2  # events of a history
DELETED = 1, 3


@timer.section("explain")
def measure_faithfulness(
    recommender: Recommender, log: Log, at: int, n_users: int, *, deleted: Sequence[int] = DELETED
) -> list[DeletionResult]:
    """Run a deletion test for each number of deleted events.

    Afterwards the recommender follows the users of the log up to `at`.

    Args:
        recommender: Recommender to test.
        log: Log of its users.
        at: Moment of the recommendations in seconds.
        n_users: Users to sample at most.
        deleted: Numbers of events to delete.

    Returns:
        Results, without those that have fewer than two users with more events.
    """
    recommender.live.replay_log(log, before=at)
    histories = _sample_returning_histories(recommender, log, at, n_users)
    firsts = [best[0].item for best in recommender.batch.recommend(histories, k=1, at=at)]
    explained = [
        ExplainedItem(history, item, recommender.explain(history, item, at=at).rank_events())
        for history, item in zip(histories, firsts, strict=True)
    ]

    def score(histories: Sequence[Sequence[Any]], items: Sequence[Any]) -> list[float]:
        return [scores[0] for scores in recommender.batch.score(histories, [[item] for item in items], at=at)]

    tests = (run_deletion_test(explained, score, n) for n in deleted)
    return [test for test in tests if test is not None and test.n_explained > 1]


def _sample_returning_histories(recommender: Recommender, log: Log, at: int, most: int) -> list[list[tuple[str, int]]]:
    """Return the histories of a sample of users with events both before and after `at`."""
    events = log.interactions
    back = np.unique(events.user[events.time >= at])
    drawn = (str(log.user_ids[int(user)]) for user in np.random.default_rng(0).permutation(back))
    found = list[list[tuple[str, int]]]()
    for user in drawn:
        history = recommender.live.history(user)
        if len(history) >= MIN_EVENTS:
            found.append(history)
        if len(found) == most:
            break
    return found
