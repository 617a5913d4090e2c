"""A log from parquet to training batches: CPU time and memory by size, which must grow no faster than the log.

    OMP_NUM_THREADS=1 python scripts/bench/ingest.py [--events '[1000000, 10000000]'] [--folder FOLDER] [--json PATH]

Logs are made up: ids are text, items are touched by popularity, times come in no order, a tenth as many items as
events and a fiftieth as many users. They stay in the folder, if one is given. Each size runs in a process of its own;
memory is what is resident at most, beyond what the process had after its imports.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import jsonargparse
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from comparison import Row, report
from memory import peak_memory, resident_mib

from llmrec.config.data import DataConfig
from llmrec.data.batches import build_epoch_batches, build_training_windows, collate_windows
from llmrec.data.histories import make_queries
from llmrec.data.loading import load_log
from llmrec.data.splits import TEST, Split, split_by_time

AT_ONCE = 1_000_000  # rows that are made up at a time
START, YEAR = 1_700_000_000, 31_536_000  # seconds


@dataclass(frozen=True)
class Cost:
    stage: str
    seconds: float
    peak_mib: float


def main(
    events: tuple[int, ...] = (1_000_000, 10_000_000), folder: Path | None = None, json: Path | None = None
) -> None:
    rows, by_event = [], dict[str, list[tuple[int, Cost]]]()
    with tempfile.TemporaryDirectory() as scratch:
        for n_events in events:
            place = (folder or Path(scratch)) / str(n_events)
            make_log(place, n_events)
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
                costs = process.submit(measure, place).result()
            for cost in costs:
                work = f"{cost.stage}, {n_events:,} events"
                rows += [Row(work, cost.seconds, "CPU s"), Row(work, cost.peak_mib, "MiB at most")]
                by_event.setdefault(cost.stage, []).append((n_events, cost))
    report(rows + [row for stage in by_event.values() if len(stage) > 1 for row in growth(stage)], json)


def growth(stage: list[tuple[int, Cost]]) -> list[Row]:
    """What an event costs in the largest log (ours) beside the smallest (peer)."""
    (few, small), (many, large) = stage[0], stage[-1]
    work = f"{small.stage}, {many:,} beside {few:,}"
    return [
        Row.costs(work, [1e6 * large.seconds / many], [1e6 * small.seconds / few], "CPU s a million events"),
        Row.costs(work, [2**20 * large.peak_mib / many], [2**20 * small.peak_mib / few], "bytes an event at most"),
    ]


def measure(folder: Path) -> list[Cost]:
    """From parquet files to the batches of one epoch."""
    base, costs = resident_mib(), list[Cost]()

    def stage(name: str, work: Callable[[], Any]) -> Any:
        began = time.process_time()
        with peak_memory(base) as peak:
            result = work()
        costs.append(Cost(name, time.process_time() - began, peak.mib))
        print(f"{folder.name}: {costs[-1]}", file=sys.stderr, flush=True)  # a large one takes minutes
        return result

    log = stage("load_log", lambda: load_log(DataConfig(source=str(folder))))
    split = stage("split_by_time", lambda: split_by_time(log.interactions, log.n_users, log.n_items))
    stage("test queries", lambda: make_queries(split, TEST))
    stage("training batches", lambda: batches(split))
    return costs


def batches(split: Split) -> None:
    """The windows of the training part, the batches of an epoch, and a hundred of them read."""
    windows = build_training_windows(split.train, split.n_users, 50, "strict")
    for rows in build_epoch_batches(windows, 1024, np.random.default_rng(0))[:100]:
        collate_windows(windows, rows, query_time_known=False)


def make_log(folder: Path, n_events: int) -> None:
    """interactions.parquet and items.parquet, if they are not there yet."""
    if (folder / "items.parquet").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    rng, n_users, n_items = np.random.default_rng(0), max(n_events // 50, 1), max(n_events // 10, 1)
    stretches = [min(AT_ONCE, n_events - start) for start in range(0, n_events, AT_ONCE)]
    write(folder / "interactions.parquet", (some_events(rng, size, n_users, n_items) for size in stretches))
    rows = (np.arange(start, min(start + AT_ONCE, n_items)) for start in range(0, n_items, AT_ONCE))
    write(folder / "items.parquet", (pa.table({"item_id": ids("i", r), "title": ids("Item number ", r)}) for r in rows))


def some_events(rng: np.random.Generator, size: int, n_users: int, n_items: int) -> pa.Table:
    item = (n_items * rng.random(size) ** 3).astype(np.int64)
    user, timestamp = rng.integers(n_users, size=size), START + rng.integers(YEAR, size=size)
    return pa.table({"user_id": ids("u", user), "item_id": ids("i", item), "timestamp": timestamp})


def ids(prefix: str, numbers: np.ndarray) -> pa.Array:
    return pc.binary_join_element_wise(pa.scalar(prefix), pa.array(numbers).cast(pa.string()), pa.scalar(""))


def write(path: Path, tables: Any) -> None:
    writer = None
    for table in tables:
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
    if writer is not None:
        writer.close()


if __name__ == "__main__":
    jsonargparse.auto_cli(main, as_positional=False)
