"""Explanations put to the test: whether what a recommender says of its first recommendations is what they hang on.

Everybody is followed up to a moment, such as the start of the test window; the users drawn are those who come back from
then on, and what is explained is the item that each would have been recommended first.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from llmrec.data.log import Log
from llmrec.evaluation.deletion_test import DeletionResult, ExplainedItem, run_deletion_test
from llmrec.inference.explanations.decompose import ImprobableItemError
from llmrec.recommender import Recommender
from llmrec.utils.timing import timer

MIN_EVENTS = 2  # events of a history
DELETED = 1, 3


@timer.section("explain")
def measure_faithfulness(
    recommender: Recommender, log: Log, at: int, n_users: int, deleted: Sequence[int] = DELETED
) -> list[DeletionResult]:
    """A test for each number of events to delete; none where not even two users have more. at: seconds.

    The recommender follows the log's users up to `at` from then on.
    """
    recommender.live.replay_log(log, before=at)
    explained = list[ExplainedItem]()
    for history in _sample_returning_histories(recommender, log, at, n_users):
        with suppress(ImprobableItemError):  # the count of what was explained tells of it
            explained.append(_explain_top_item(recommender, history, at))

    def score(histories: Sequence[Sequence[Any]], item: Any) -> list[float]:
        return [scores[0] for scores in recommender.score_many(histories, [[item]] * len(histories), at=at)]

    tests = (run_deletion_test(explained, score, n) for n in deleted)
    return [test for test in tests if test is not None and test.n_explained > 1]


def _sample_returning_histories(recommender: Recommender, log: Log, at: int, most: int) -> list[list[tuple[str, int]]]:
    """Of users who have a past and come back."""
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


def _explain_top_item(recommender: Recommender, history: list[tuple[str, int]], at: int) -> ExplainedItem:
    item = recommender.recommend(history, k=1, at=at)[0].item
    return ExplainedItem(history, item, recommender.explain(history, item, at=at).rank_events())
