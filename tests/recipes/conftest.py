"""A small planted log as a folder on disk, which is what recipes are given."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llmrec.config.data import DataConfig
from llmrec.data.synthetic_log import make_synthetic_log


@pytest.fixture(autouse=True)
def logs_of_their_own() -> Iterator[None]:
    """What a recipe has opened in this process hears nothing of the next one."""
    from llmrec.runs.run_record import close_record

    yield
    close_record()


@pytest.fixture(scope="session")
def planted_log() -> Callable[..., DataConfig]:
    """planted_log(folder, seed=0) writes 480 events by 60 users on 50 items, or of as many users as are asked for."""

    def write(folder: Path, seed: int = 0, n_users: int = 60) -> DataConfig:
        log = make_synthetic_log(n_users=n_users, n_items=50, events_per_user=8, seed=seed)[0]
        folder.mkdir()
        events = log.interactions
        users, items = log.user_ids.take(pa.array(events.user)), log.catalog.ids.take(pa.array(events.item))
        table = pa.table({"user_id": users, "item_id": items, "timestamp": events.time})
        pq.write_table(table, folder / "interactions.parquet")
        pq.write_table(log.catalog.fields.select(["item_id", "title"]), folder / "items.parquet")
        return DataConfig(source=str(folder))

    return write


@pytest.fixture(scope="session")
def two_processes() -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """two_processes(recipe, *arguments) runs it in two on the CPU; `accelerate launch --cpu` would run one."""

    def run(recipe: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", str(recipe)]
        environment = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
        return subprocess.run(
            [*command, *arguments], capture_output=True, text=True, env=environment, timeout=300, check=False
        )

    return run
