"""Whether explanations name what matters: the deletion test, on what a bundle recommends to users of its log.

    OMP_NUM_THREADS=1 python scripts/bench/faithfulness.py --bundle BUNDLE --data.source FOLDER [--users 500]

Everybody is followed up to the start of the test window, the users drawn are those who come back in it, and what they
are told why of is what the bundle would recommend first at that moment.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jsonargparse
import numpy as np
from machine import describe, write_record

from llmrec.asked import log_config
from llmrec.config import DataConfig
from llmrec.data.log import Log
from llmrec.data.sources import load_log
from llmrec.data.splits import make_split
from llmrec.evaluation.faithfulness import Explained, deletion_lines, deletion_test
from llmrec.recommender import Recommender

FEWEST = 2  # events of a history


def main(
    bundle: Path,
    data: DataConfig | None = None,
    users: int = 500,
    deleted: tuple[int, ...] = (1, 3),
    json: Path | None = None,
) -> None:
    """users: how many are drawn. deleted: events that are left out together. json: where to write the record."""
    recommender = Recommender.from_pretrained(bundle)
    config = recommender.config
    log = load_log(log_config(config.data, data))
    split, _ = make_split(config.split.names[0], log.interactions, log.n_users, log.n_items, config.split)
    at = split.test_start
    recommender.follow(log, until=at)
    began = time.process_time()
    explained = [_explained(recommender, history, at) for history in _histories(recommender, log, at, users)]
    each = (time.process_time() - began) / max(len(explained), 1)

    def score(histories: Sequence[Sequence[Any]], item: Any) -> list[float]:
        return [scores[0] for scores in recommender.score_many(histories, [[item]] * len(histories), at)]

    tests = [test for n in deleted if (test := deletion_test(explained, score, n)) is not None]
    print(f"{len(explained):,} histories, {1000 * each:.0f} CPU ms for a recommendation with its explanation\n")
    print("\n".join(deletion_lines(tests)))
    write_record(json, [asdict(test) | {"cpu_s_each": each} for test in tests], describe())


def _histories(recommender: Recommender, log: Log, at: int, most: int) -> list[list[tuple[str, int]]]:
    """Of users who have a past and come back."""
    events = log.interactions
    back = np.unique(events.user[events.time >= at])
    drawn = np.random.default_rng(0).permutation(back)
    known = (str(log.user_ids[int(user)]) for user in drawn)
    histories = (recommender.history(user) for user in known)
    return [history for history in histories if len(history) >= FEWEST][:most]


def _explained(recommender: Recommender, history: list[tuple[str, int]], at: int) -> Explained:
    item = recommender.recommend(history, 1, at)[0].item
    return Explained(history, item, recommender.explain(history, item, at).strongest())


if __name__ == "__main__":
    jsonargparse.auto_cli(main, as_positional=False)
