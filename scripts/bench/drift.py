"""What the drift head costs: an event of a live user, and a replay with daily refresh on top of the model's scores.

    OMP_NUM_THREADS=1 python scripts/bench/drift.py --data.source FOLDER [--data.order_column NAME] [--json PATH]

Everything runs on one thread and is measured in CPU time, so that other work on the machine counts little. Weights and
vectors are random: they cost what fitted ones cost.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import jsonargparse
import numpy as np
import torch
from machine import describe, write_record
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from llmrec.config.data import DataConfig
from llmrec.config.drift import DriftConfig
from llmrec.data.histories import Queries, make_queries
from llmrec.data.loading import load_log
from llmrec.data.splits import TEST, Split, split_by_time
from llmrec.drift.head import DriftHead
from llmrec.drift.scorers import DriftScorer
from llmrec.drift.stream import ReplayStream
from llmrec.drift.terms import chain
from llmrec.drift.terms.latent_chain import ChainTables, LatentChain
from llmrec.drift.text_neighbors import center_and_normalize
from llmrec.evaluation.ranking import Scorer, rank_queries, sample_queries
from llmrec.inference.live.online_state import OnlineState
from llmrec.utils.arrays import Rows
from llmrec.utils.units import SECONDS_PER_DAY

Times = NDArray[np.float64]
LIVE_STATES, REPLAY_STATES = 128, 32
TEXT_DIM, MODEL_DIM = 384, 64
N_USERS, EVENTS_EACH = 500, 16  # of the events that are timed one by one
ROUNDS = 3
GAPS = {"gaps of 1 to 400 days": (SECONDS_PER_DAY, 400 * SECONDS_PER_DAY), "gaps of 1 to 100,000 seconds": (1, 100_001)}


class Row(NamedTuple):
    work: str
    ours: float
    unit: str


class MatmulScorer:
    """As cheap as a model can be: random users times random items."""

    def __init__(self, split: Split) -> None:
        self.users, self.items = torch.randn(split.n_users, MODEL_DIM), torch.randn(MODEL_DIM, split.n_items)

    def score(self, queries: Queries) -> Tensor:
        """(B, N)"""
        return self.users[queries.user] @ self.items


def main(data: DataConfig, most_queries: int = 20_000, json: Path | None = None) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    log = load_log(data)
    split = split_by_time(log.interactions, log.n_users, log.n_items)
    vectors = center_and_normalize(torch.randn(split.n_items, TEXT_DIM))
    plain = ReplayStream.from_split(DriftConfig(), split, "strict", vectors)
    rows = live_rows(with_chain(plain, vectors, LIVE_STATES), split.test_start)
    rows += replay_rows(with_chain(plain, vectors, REPLAY_STATES), split, most_queries)
    machine = describe()
    print(f"{log.facts.source}: {split.n_items:,} items; {machine['cpu']}, one thread, torch {machine['torch']}\n")
    for row in rows:
        print(f"{row.work:<86} {row.ours:>9,.1f} {row.unit}")
    write_record(json, [row._asdict() for row in rows], machine)


def with_chain(stream: ReplayStream, vectors: Tensor, n_states: int) -> tuple[DriftHead, ReplayStream]:
    chain = LatentChain(functional.normalize(torch.randn(n_states, TEXT_DIM), dim=1)).requires_grad_(False)
    torch.nn.init.normal_(chain.chain.logits)
    head = DriftHead(stream.config, chain).requires_grad_(False)
    return head, replace(stream, chain=ChainTables.from_chain(chain, vectors))


def live_rows(parts: tuple[DriftHead, ReplayStream], start: int) -> list[Row]:
    """Of a state that has seen the log up to `start`, so that tables have the size they have in use."""
    state, log = OnlineState(*parts), parts[1].log
    past = log.take(log.time < start)
    spent = microseconds(state.observe, past.user, past.item, past.time)
    rows = [Row(f"observe, K = {LIVE_STATES}, mean over {len(past):,} events of the log, counting included",
                float(spent.mean()), "us")]  # fmt: skip
    rng = np.random.default_rng(0)
    for name, (least, most) in GAPS.items():
        user = np.tile(np.arange(N_USERS), EVENTS_EACH)
        item = rng.integers(0, parts[1].n_items, len(user))
        gap = rng.integers(least, most, (EVENTS_EACH, N_USERS))
        time = int(state.last.time.max()) + gap.cumsum(0).ravel()
        rows += event_rows(state, user, item, gap.ravel(), time, name)
    return rows


def event_rows(state: OnlineState, user: Rows, item: Rows, gap: Rows, time: Rows, name: str) -> list[Row]:
    """The belief alone; the whole of an event that waits to be counted; and one that is counted at once."""
    if chain.NAME not in state.users:
        raise ValueError("the head has no chain")
    belief = microseconds(state.users[chain.NAME].observe, user, item, gap)
    half, last = slice(len(user) // 2), slice(len(user) // 2, None)
    waiting = microseconds(state.observe, user[half], item[half], time[half])

    def counted(user: int, item: int, time: int) -> None:
        state.observe(user, item, time)
        state.counts_at(time)

    at_once = microseconds(counted, user[last], item[last], time[last])
    return [
        Row(f"belief, K = {LIVE_STATES}, {name}", float(np.median(belief)), "us"),
        Row(f"belief, K = {LIVE_STATES}, {name}, 99th percentile", float(np.quantile(belief, 0.99)), "us"),
        Row(f"observe, {name}", float(np.median(waiting)), "us"),
        Row(f"observe and count at once, {name}", float(np.median(at_once)), "us"),
        Row(f"observe and count at once, {name}, mean", float(at_once.mean()), "us"),
    ]


def microseconds(work: Callable[[int, int, int], None], *columns: Rows) -> Times:
    """(E,) of CPU time that each event took."""
    spent = np.zeros(len(columns[0]))
    for place, (user, item, last) in enumerate(zip(*(column.tolist() for column in columns), strict=True)):
        began = time.thread_time()
        work(user, item, last)
        spent[place] = 1e6 * (time.thread_time() - began)
    return spent


def replay_rows(parts: tuple[DriftHead, ReplayStream], split: Split, most_queries: int) -> list[Row]:
    """The test window, ranked by the model alone and under the head, in turn: the machine may have other work."""
    queries = sample_queries(make_queries(split, TEST), most_queries)
    base = MatmulScorer(split)
    seconds = np.array([[ranking_seconds(scorer, queries) for scorer in (base, DriftScorer(parts[0], base, parts[1]))]
                        for _ in range(ROUNDS)])  # fmt: skip
    plain, added = float(np.median(seconds[:, 0])), float(np.median(seconds[:, 1] - seconds[:, 0]))
    days = len(np.unique(queries.time // SECONDS_PER_DAY))
    what = f"{len(queries):,} queries of {days} days, {split.n_items:,} items"
    return [
        Row(f"ranking with the model alone: {what}", plain, "CPU s"),
        Row(f"added by the head with daily refresh, K = {REPLAY_STATES}", added, "CPU s"),
        Row("added for each query", 1e3 * added / len(queries), "CPU ms"),
    ]


def ranking_seconds(scorer: Scorer, queries: Queries) -> float:
    began = time.process_time()
    rank_queries(scorer, queries)
    return time.process_time() - began


if __name__ == "__main__":
    jsonargparse.auto_cli(main, as_positional=False)
