"""A training that is measured as it goes on. Any Python with NumPy can import this.

Whenever `every` more targets have been learned from, the worker leaves the states of the users that are asked about and
the vectors of all items, whose dot products are its scores, and waits to be told what they were worth. The CPU clock
stands still in the meantime.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rounds import answers

TRAIN = 0
Vectors = Callable[[], tuple[np.ndarray, np.ndarray, np.ndarray]]
"""() -> states (Q, D) of the users asked about, vectors (N, D) of items, and which (N,) of them can be ranked."""


@dataclass
class Course:
    """What is asked for, and how far it is.

    log: path of an .npz with all events, oldest first: user, item (from 0), time (the event's place), seconds, part
        (0: training); and asked, the users whose next item after their training events is the question.
    folder: scratch. model, train: llmrec's settings. learning_rate: of the others, where it is not to be their own.
    """

    log: str
    folder: str
    dim: int
    layers: int
    max_history: int
    every: int
    seed: int
    text: str | None = None
    learning_rate: float | None = None
    model: dict[str, Any] = field(default_factory=dict)
    train: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        with np.load(self.log) as columns:
            self.columns = {name: columns[name] for name in columns}
        self.targets, self.seconds, self.due = 0, 0.0, self.every

    @classmethod
    def asked(cls) -> Course:
        return cls(**json.loads(sys.argv[1]))

    @property
    def n_items(self) -> int:
        return int(self.columns["item"].max()) + 1

    def events(self, of_training: bool = True) -> dict[str, np.ndarray]:
        kept = (self.columns["part"] == TRAIN) | (not of_training)
        return {name: self.columns[name][kept] for name in ("user", "item", "time")}

    def histories(self) -> list[np.ndarray]:
        """The last `max_history` training items of each user that is asked about, oldest first."""
        events = self.events()
        by_user = np.argsort(events["user"], kind="stable")
        bounds = np.searchsorted(events["user"][by_user], np.stack([self.columns["asked"], self.columns["asked"] + 1]))
        return [events["item"][by_user[max(start, end - self.max_history) : end]] for start, end in bounds.T]

    def begin(self) -> None:
        sys.stdin.readline()
        self.began = time.process_time()

    def learned(self, targets: int) -> bool:
        """Whether it is time to measure, after a step on so many targets."""
        self.targets += targets
        return self.targets >= self.due

    def measured(self, vectors: Vectors) -> float:
        """NDCG@10 of what training has come to."""
        self.seconds += time.process_time() - self.began
        self.due = self.targets + self.every
        states, items, known = vectors()
        np.savez(Path(self.folder) / "vectors.npz", states=states, items=items, known=known)
        print(json.dumps({"targets": self.targets, "seconds": self.seconds}), file=answers, flush=True)
        told = sys.stdin.readline()
        if not told:
            raise SystemExit
        self.began = time.process_time()
        return float(told)

    def finish(self) -> None:
        print(json.dumps({"finished": True}), file=answers, flush=True)


def padded(histories: list[np.ndarray], longest: int, padding: int, left: bool) -> np.ndarray:
    """(Q, longest) of histories, padded at one end."""
    rows = np.full((len(histories), longest), padding)
    for row, history in zip(rows, histories, strict=True):
        if len(history):
            row[slice(-len(history), None) if left else slice(len(history))] = history
    return rows
