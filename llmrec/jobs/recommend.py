"""Recommend items to every user of a log, in parquet files that processes share and a killed run never leaves damaged.

File p holds the p-th range of users with a history, one row for each user and rank. A file is written under a temporary
name and then moved, so that a file in its place is complete; the missing files are divided among the processes.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from accelerate import Accelerator
from tqdm import tqdm

from llmrec.config.jobs.recommend import RecommendConfig
from llmrec.data.log import Log
from llmrec.engines.accelerator import all_reduce_sum
from llmrec.errors import ConfigError
from llmrec.hub.layout import LAYOUT
from llmrec.inference.log_users import LogUsers
from llmrec.inference.queries import parse_time
from llmrec.recommender import Recommender
from llmrec.runs.run_lock import lock_folder
from llmrec.runs.start import join_run
from llmrec.search.topk import TopK
from llmrec.utils.folder_lock import HOLDER, LOCK, unlock
from llmrec.utils.timing import timer

FACTS = "_recommendations.json"  # readers of parquet folders skip names with an underscore


def recommend_all_users(recommender: Recommender, log: Log, config: RecommendConfig, accelerator: Accelerator) -> int:
    """Recommend to the users whose files are missing, this process's share of them.

    Args:
        recommender: Loaded recommender.
        log: Log of the users.
        config: Settings of the job.
        accelerator: Processes that share the work.

    Returns:
        The number of users that this process recommended to.

    Raises:
        ConfigError: If the folder holds the results of another run, or no user has events before `at`.
    """
    at = int(log.interactions.time[-1]) + 1 if config.at is None else parse_time(config.at)
    users = LogUsers.from_log(log, recommender.catalog.items, at)
    if accelerator.is_main_process:
        _open_output(config.output, _build_manifest(config, log, at))
    accelerator.wait_for_everyone()
    left = [
        part
        for part in range(-(-len(users) // config.users_per_part))
        if not _get_part_path(config.output, part).exists()
    ]
    accelerator.wait_for_everyone()  # all processes have listed the files before any is written
    own_parts = left[accelerator.process_index :: accelerator.num_processes]
    if recommender.catalog.drift is not None:
        recommender.live.replay_log(log, before=at)
    stretches = [range(len(users))[part * config.users_per_part :][: config.users_per_part] for part in own_parts]
    n_users = sum(map(len, stretches))
    with tqdm(total=n_users, unit="user", disable=not accelerator.is_main_process or None) as bar:
        for part, stretch in zip(own_parts, stretches, strict=True):
            tables = []
            for start in range(stretch.start, stretch.stop, config.batch_size):
                some = users.take(slice(start, min(start + config.batch_size, stretch.stop)))
                found = recommender.batch.recommend_users(
                    some, k=config.k, include_seen=config.include_seen, filters=config.filters or None
                )
                tables.append(_build_table(recommender, some, found))
                bar.update(len(some))
            _write(_get_part_path(config.output, part), pa.concat_tables(tables))
    accelerator.wait_for_everyone()
    return n_users


def _build_manifest(config: RecommendConfig, log: Log, at: int) -> dict[str, Any]:
    """Return the facts that all files have in common."""
    bundle = hashlib.sha256((config.bundle / LAYOUT.settings).read_bytes()).hexdigest()
    settings = {name: getattr(config, name) for name in ("k", "include_seen", "users_per_part")}
    return {"bundle": bundle, "log": log.facts.fingerprint, "at": at, "where": list(config.filters), **settings}


def _open_output(folder: Path, facts: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for partial in folder.glob(".part-*.partial"):  # of a run that was killed
        partial.unlink()
    path = folder / FACTS
    if not path.exists():
        if any(path.name not in (LOCK, HOLDER) for path in folder.iterdir()):
            raise ConfigError(f"output={folder}: it holds something else; give an empty or a new folder")
        path.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    there = json.loads(path.read_text(encoding="utf-8"))
    other = [name for name in facts if there.get(name) != facts[name]]
    if other:
        raise ConfigError(f"output={folder}: it holds answers with another {', '.join(other)}; give another folder")


def _build_table(recommender: Recommender, users: LogUsers, found: TopK) -> pa.Table:
    rank = np.tile(np.arange(1, found.item.shape[1] + 1, dtype=np.int32), len(users))
    score, item = found.score.flatten().numpy(), found.item.flatten().numpy()
    there = np.isfinite(score)
    user = np.repeat(users.queries.user, found.item.shape[1])
    return pa.table(
        {
            "user_id": users.log.user_ids.take(pa.array(user[there])),
            "rank": rank[there],
            "item_id": recommender.catalog.ids.take(pa.array(item[there])),
            "score": score[there].astype(np.float32),
        }
    )


def _get_part_path(folder: Path, part: int) -> Path:
    return folder / f"part-{part:06d}.parquet"


def _write(path: Path, table: pa.Table) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        pq.write_table(table, partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def run_recommend(config: RecommendConfig) -> None:
    """Write recommendations for all users of a log.

    Args:
        config: Settings of the job.
    """
    accelerator = join_run()
    recommender = Recommender.from_pretrained(config.bundle, backbone=config.backbone, device=accelerator.device)
    log = recommender.training_log.read(config.data)

    lock_folder(config.output, accelerator)
    with timer.section("recommend") as spent:
        n_users = all_reduce_sum(recommend_all_users(recommender, log, config, accelerator), accelerator)
    accelerator.print(
        f"{n_users:,} users by {accelerator.num_processes} process(es) in {spent.wall:,.0f} s, "
        f"{n_users / spent.wall:,.0f} users/s; the others were there\n{config.output}"
    )
    accelerator.end_training()
    unlock()
