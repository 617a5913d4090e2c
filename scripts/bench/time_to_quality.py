"""CPU time until the sequence model is as good as SASRec of other libraries becomes, beside the time they take to it.

    scripts/bench/setup_peers recbole rectools replay
    python scripts/bench/time_to_quality.py [--data.source FOLDER --data.order_column COLUMN] --courses FOLDER
        [--every 25000] [--budget 600] [--seeds '[0, 1, 2]'] [--train.learning_rate 3e-3 ...]
        [--peer_learning_rate 3e-3] [--json PATH]

Everyone learns from the same training part of leave_one_out, in the file's order, ids alone, at one size, by the
trainer and with the settings that its own users have. After every so many targets the clock stops and the same measure
is taken of all: NDCG@10 of validation targets among all items that training knows, seen ones left out. A library has
converged where `patience` measurements bring no gain, or its budget of CPU seconds is spent; its best value is what it
is worth. Each measurement is kept in the folder of courses; a course that is over there is not run again.
"""

from __future__ import annotations

import json as to_json
import math
import statistics
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import jsonargparse
import numpy as np
import torch
from comparison import Row, report
from torch import Tensor
from workers import Worker

from llmrec.backbones.text_backbone import TextBackbone
from llmrec.backbones.text_vector_cache import TextVectorCache
from llmrec.config.backbone import BackboneConfig
from llmrec.config.data import DataConfig
from llmrec.config.model import ModelConfig
from llmrec.config.train import TrainConfig
from llmrec.data.histories import Queries, make_queries
from llmrec.data.loading import load_log
from llmrec.data.log import Log
from llmrec.data.splits import VALID, Split, leave_one_out
from llmrec.evaluation.ranking import mean_ndcg, sample_queries

Learner = Literal["recbole", "rectools", "replay", "llmrec", "llmrec with text"]
OURS = ("llmrec", "llmrec with text")
SCRIPTS = Path(__file__).parent / "sasrec"
NEARLY = 0.95


def main(
    courses: Path,
    data: DataConfig = DataConfig(source="movielens_small"),  # noqa: B008  # frozen
    learners: tuple[Learner, ...] = ("recbole", "rectools", "replay", "llmrec"),
    model: ModelConfig = ModelConfig(n_layers=2, item_affinity=0.0, time_bias=False),  # noqa: B008
    with_text: ModelConfig = ModelConfig(n_layers=2, time_bias=False),  # noqa: B008
    train: TrainConfig = TrainConfig(patience=1000),  # noqa: B008  # who measures decides when it is over
    backbone: BackboneConfig = BackboneConfig(name="packaged:all-MiniLM-L6-v2"),  # noqa: B008
    peer_learning_rate: float | None = None,
    seeds: tuple[int, ...] = (0, 1, 2),
    every: int = 25_000,
    patience: int = 10,
    budget: float = 600.0,
    most_queries: int = 8_000,
    json: Path | None = None,
) -> None:
    torch.set_num_threads(1)
    courses.mkdir(parents=True, exist_ok=True)
    log = load_log(data)
    split, rows = with_events(log)
    queries = sample_queries(make_queries(split, VALID, ties="file_order"), most_queries)
    write_log(split, queries, courses / "log.npz")
    size = {"dim": model.dim, "layers": model.n_layers, "max_history": model.max_history}
    asked: dict[str, Any] = {"log": str(courses / "log.npz"), "every": every, "train": settings(train), **size}
    asked["learning_rate"] = peer_learning_rate
    runs: dict[str, list[list[Point]]] = {}
    for seed in seeds:
        for name in learners:
            own = asked | {"seed": seed, "model": settings(with_text if name == "llmrec with text" else model)}
            if name == "llmrec with text":
                own["text"] = str(write_text(log, backbone, rows, courses / "text.npy"))
            kept = courses / f"{name.replace(' ', '_')}-{seed}.json"
            runs.setdefault(name, []).append(course(name, own, queries, kept, patience, budget))
    report(compared(runs, f"{log.facts.source}, {len(queries):,} users"), json)


@dataclass(frozen=True)
class Point:
    """NDCG@10 after so many targets and CPU seconds of training."""

    targets: int
    seconds: float
    ndcg: float


def course(name: str, asked: dict[str, Any], queries: Queries, kept: Path, patience: int, budget: float) -> list[Point]:
    """One training, measured until it has converged; from `kept`, where it is whole there."""
    if kept.exists() and (found := to_json.loads(kept.read_text(encoding="utf-8")))["over"]:
        return [Point(**point) for point in found["points"]]
    script = SCRIPTS / f"{'llmrec' if name in OURS else name}_course.py"
    points: list[Point] = []
    with tempfile.TemporaryDirectory() as folder:
        given = to_json.dumps(asked | {"folder": folder})
        worker = Worker(None if name in OURS else name, script, given, Path(folder) / "words")
        over, word = False, ""
        while not over:
            told = worker.round(word)
            if not (over := "finished" in told):
                ndcg = mean_ndcg(Vectors.left_in(Path(folder), queries), queries)
                points.append(Point(told["targets"], told["seconds"], ndcg))
                word = str(ndcg)
                over = len(points) - 1 - best(points) >= patience or points[-1].seconds > budget
                print(f"{name}, seed {asked['seed']}: {points[-1]}", flush=True)
            kept.write_text(to_json.dumps({"over": over, "points": [asdict(point) for point in points]}))
        worker.close()
    return points


class Vectors:
    """Scores of states (Q, D) and items (N, D), as a scorer of the queries that they belong to."""

    def __init__(self, states: Tensor, items: Tensor, known: Tensor, user: Tensor) -> None:
        self.states_of, self.items, self.unknown = states, items, ~known
        self.user = user

    @classmethod
    def left_in(cls, folder: Path, queries: Queries) -> Vectors:
        with np.load(folder / "vectors.npz") as found:
            states, items, known = (torch.from_numpy(found[name]) for name in ("states", "items", "known"))
        return cls(states.float(), items.float(), known, torch.from_numpy(np.sort(queries.user)))

    def score(self, queries: Queries) -> Tensor:
        states = self.states_of[torch.searchsorted(self.user, torch.from_numpy(queries.user))]
        return (states @ self.items.T).masked_fill(self.unknown, -torch.inf)


def with_events(log: Log) -> tuple[Split, np.ndarray]:
    """leave_one_out of the items that have events, numbered from 0, and their rows in the catalog."""
    rows, item = np.unique(log.interactions.item, return_inverse=True)
    events = type(log.interactions)(log.interactions.user, item.astype(np.int64), log.interactions.time)
    return leave_one_out(events, log.n_users, len(rows)), rows


def write_log(split: Split, queries: Queries, path: Path) -> None:
    """As the workers read it, see `sasrec/course.py`. Places instead of times: no ties, and exact as floats."""
    events = split.interactions
    np.savez(
        path, user=events.user, item=events.item, time=np.arange(len(events)), seconds=events.time, part=split.part,
        asked=np.sort(queries.user),
    )  # fmt: skip


def write_text(log: Log, backbone: BackboneConfig, rows: np.ndarray, path: Path) -> Path:
    """Vectors of the items' texts by the frozen backbone, which are made once for all."""
    texts = log.catalog.list_texts()
    np.save(path, TextVectorCache(TextBackbone.load(backbone)).get_vectors([texts[row] for row in rows]).numpy())
    return path


def settings(config: ModelConfig | TrainConfig) -> dict[str, Any]:
    return {name: value for name, value in asdict(config).items() if name != "history_text"}


def best(points: list[Point]) -> int:
    return max(range(len(points)), key=lambda row: points[row].ndcg)


def seconds_to(points: list[Point], ndcg: float) -> float:
    """Until that was reached first; infinitely many where it never was."""
    return next((point.seconds for point in points if point.ndcg >= ndcg), float("inf"))


def compared(runs: dict[str, list[list[Point]]], source: str) -> list[Row]:
    """For each peer, the CPU time to what it is worth (median over seeds), its own and ours; the best one first."""
    middle = statistics.median
    worth = {name: middle([points[best(points)].ndcg for points in seeds]) for name, seeds in runs.items()}
    rows = []
    for name in sorted(set(runs) - set(OURS), key=lambda name: -worth[name]):
        for share, words in ((1.0, "converged"), (NEARLY, f"{NEARLY:.0%} of it")):
            theirs = [seconds_to(points, share * points[best(points)].ndcg) for points in runs[name]]
            for own in [own for own in OURS if own in runs]:
                ours = [seconds_to(points, share * worth[name]) for points in runs[own]]
                work = f"{source}: {own} to {name}'s {share * worth[name]:.4f} ({words})"
                rows.append(_row(work, ours, theirs, max(points[-1].seconds for points in runs[own])))
    for name in runs:
        seconds = middle([points[best(points)].seconds for points in runs[name]])
        rows.append(Row(f"{source}: {name} at its best, {worth[name]:.4f}", seconds, "CPU s"))
    return rows


def _row(work: str, ours: list[float], theirs: list[float], longest: float) -> Row:
    """longest: how long ours was given, where most seeds never came there."""
    if not math.isfinite(statistics.median(ours)):
        return Row(f"{work}, not reached", longest, "CPU s")
    ratio = statistics.median(theirs) / statistics.median(ours)
    pairs = [one / other for one, other in zip(theirs, ours, strict=True)]
    return Row(work, statistics.median(ours), "CPU s", statistics.median(theirs), ratio, min(pairs), max(pairs))


if __name__ == "__main__":
    jsonargparse.auto_cli(main, as_positional=False)
