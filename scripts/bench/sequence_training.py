"""Targets per CPU second of the sequence model, beside SASRec of other libraries at the same size and on the same log.

    scripts/bench/setup_peers recbole rectools replay
    python scripts/bench/sequence_training.py [--data.source FOLDER] [--peers '[recbole, rectools, replay]']
        [--rounds 5] [--steps 8] [--json PATH]

Everyone trains by the trainer that its users have, in an environment and a process of its own, on one thread, with
full-softmax cross-entropy; rounds take turns. A target is an event that the loss is asked of. RecBole's examples hold
one each, so that its batches have its default size; the others' are `batch` histories.
"""

from __future__ import annotations

import json as to_json
import tempfile
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Literal

import jsonargparse
import numpy as np
import torch
from comparison import Row, report
from sasrec.asked import Asked
from workers import Worker

from llmrec.config.data import DataConfig
from llmrec.data.loading import load_log

Peer = Literal["recbole", "rectools", "replay"]
OURS = "llmrec"
SCRIPTS = Path(__file__).parent / "sasrec"


def main(
    data: DataConfig = DataConfig(source="movielens_small"),  # noqa: B008  # frozen
    peers: tuple[Peer, ...] = ("recbole", "rectools", "replay"),
    dim: int = 64,
    layers: int = 2,
    heads: int = 2,
    max_history: int = 50,
    dropout: float = 0.2,
    batch: int = 64,
    steps: int = 8,
    rounds: int = 5,
    json: Path | None = None,
) -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as started:
        path = Path(folder) / "log.npz"
        source = write_log(data, path)
        given = to_json.dumps(asdict(Asked(str(path), dim, layers, heads, max_history, dropout, batch, steps)))
        workers = {
            name: Worker(None if name == OURS else name, SCRIPTS / f"{name}_worker.py", given, Path(folder) / name)
            for name in (OURS, *peers)
        }
        for worker in workers.values():
            started.callback(worker.close)
        rates: dict[str, list[float]] = {name: [] for name in workers}
        for _ in range(rounds + 1):
            for name, worker in workers.items():
                told = worker.round()
                rates[name].append(told["targets"] / told["seconds"])
    ours, *others = ((name, rates[name][1:]) for name in workers)  # the first round warms up
    work = f"SASRec {layers} x {dim}, {max_history} events, {source}"
    report([Row.rates(f"{work}: {name}", ours[1], theirs, "targets a CPU s") for name, theirs in others], json)


def write_log(data: DataConfig, path: Path) -> str:
    """Events of the items that have any, numbered from 0; returns the log's name."""
    log = load_log(data)
    events = log.interactions
    item = np.unique(events.item, return_inverse=True)[1]
    np.savez(path, user=events.user, item=item, time=events.time)
    return log.facts.source


if __name__ == "__main__":
    jsonargparse.auto_cli(main, as_positional=False)
