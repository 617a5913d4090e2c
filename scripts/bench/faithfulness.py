"""Whether explanations name what matters: the deletion test, on what a bundle recommends to users of its log.

OMP_NUM_THREADS=1 python scripts/bench/faithfulness.py --bundle BUNDLE --data.source FOLDER [--users 500]
"""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path

import jsonargparse
from machine import describe, write_record

from llmrec.config.data import DataConfig
from llmrec.data.loading import load_log
from llmrec.data.splits import make_split
from llmrec.hub.training_log import override_data_config
from llmrec.jobs.faithfulness import DELETED, measure_faithfulness
from llmrec.recommender import Recommender
from llmrec.reports.faithfulness_text import format_deletion_table


def main(
    bundle: Path,
    data: DataConfig | None = None,
    users: int = 500,
    deleted: tuple[int, ...] = DELETED,
    json: Path | None = None,
) -> None:
    """users: how many are drawn. deleted: events that are left out together. json: where to write the record."""
    recommender = Recommender.from_pretrained(bundle)
    config = recommender.config
    log = load_log(override_data_config(config.data, data))
    split, _ = make_split(config.split.names[0], log.interactions, log.n_users, log.n_items, config=config.split)
    began = time.process_time()
    tests = measure_faithfulness(recommender, log, split.test_start, users, deleted=deleted)
    print("\n".join([*format_deletion_table(tests), "", f"{time.process_time() - began:.0f} CPU s"]))
    write_record(json, [asdict(test) for test in tests], describe())


if __name__ == "__main__":
    jsonargparse.auto_cli(main, as_positional=False)
