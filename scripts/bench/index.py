"""Indexes against the exact one: how much they find, and what a query, an item more and the whole catalog cost.

    OMP_NUM_THREADS=1 python scripts/bench/index.py [--items '[20000,100000]'] [--clusters 1000] [--json PATH]

CPU time of one thread, and of all that works for an index: Milvus Lite runs in threads of this process. It scans until
it has built its graph, in the background, and before the process may end. Queries come one by one; the median is told,
for k = 10 of N x 128 vectors. recall@10: the share of the exact index's ten that are found. A tenth is allowed for
`filtered`. Vectors lie about `clusters` random centers, as items of a catalog do, and so do queries; `--clusters 0`
spreads them evenly, which is the worst that an approximate index can meet.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import jsonargparse
import numpy as np
import torch
from machine import describe, write_record
from torch import Tensor

from llmrec.search.faiss_index import FaissIndex
from llmrec.search.index import ExactIndex, ItemIndex, recall_at_k
from llmrec.search.milvus_index import MilvusIndex
from llmrec.search.topk import TopK
from llmrec.utils.text import format_table

DIM, K = 128, 10
Make = Callable[[], ItemIndex]
SPREAD = 0.7  # of vectors about their center, whose own dimensions are normal


class Row(NamedTuple):
    """CPU milliseconds; build: of the whole catalog. recall: at 10; filtered: with a tenth of the items allowed."""

    n_items: int
    index: str
    recall: float
    query_ms: float
    filtered_recall: float
    filtered_ms: float
    add_one_ms: float
    remove_one_ms: float
    build_ms: float


def main(
    items: tuple[int, ...] = (20_000, 100_000),
    queries: int = 50,
    clusters: int = 1000,
    only: tuple[str, ...] = (),
    json: Path | None = None,
) -> None:
    """only: names of indexes, all that are installed unless given."""
    torch.set_num_threads(1)
    folder = tempfile.mkdtemp(prefix="llmrec-bench-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)  # after Milvus Lite, which writes until then
    made = {name: make for name, make in kinds(Path(folder)).items() if not only or name in ("exact", *only)}
    rows = [row for n_items in items for row in of_catalog(n_items, queries, clusters, made)]
    machine = describe() | {"clusters": str(clusters)}
    print(f"top-{K} of N x {DIM}: {machine['cpu']}, one thread, torch {machine['torch']}, {clusters} clusters\n")
    head = "items", "index", "recall@10", "query", "recall, filtered", "filtered", "add one", "remove one", "build"
    body = [[f"{r.n_items:,}", r.index, f"{r.recall:.3f}", f"{r.query_ms:.2f}", f"{r.filtered_recall:.3f}"]
            + [f"{value:,.2f}" for value in r[5:]] for r in rows]  # fmt: skip
    print("\n".join(format_table([list(head), *body])))
    write_record(json, [row._asdict() for row in rows], machine)


def of_catalog(n_items: int, n_queries: int, clusters: int, made: dict[str, Make]) -> Iterator[Row]:
    """made: the exact one first."""
    vectors, queries = drawn(n_items, n_queries, clusters)
    allowed = np.random.default_rng(0).random(n_items) < 0.1
    right: tuple[TopK, TopK] | None = None
    for name, make in made.items():
        index, rows = make(), np.arange(n_items)
        build = spent(partial(index.add, rows, vectors))
        plain, filtered = one_by_one(index, queries), one_by_one(index, queries, allowed)
        right = right or (plain[0], filtered[0])  # the exact index comes first
        new = [np.array([n_items + place]) for place in range(5)]
        add = [spent(partial(index.add, row, queries[:1])) for row in new]
        remove = [spent(partial(index.remove, row)) for row in new]
        yield Row(
            n_items, name, recall_at_k(plain[0], right[0]), plain[1], recall_at_k(filtered[0], right[1]), filtered[1],
            float(np.median(add)), float(np.median(remove)), build,
        )  # fmt: skip


def kinds(folder: Path) -> dict[str, Make]:
    """Empty indexes, of those that are installed."""
    exact, approximate = partial(ExactIndex, DIM), partial(FaissIndex, DIM)
    made: dict[str, Make] = {"exact": exact, "exact, int8": partial(exact, "int8")}
    if find_spec("faiss") is not None:
        import faiss

        faiss.omp_set_num_threads(1)
        made |= {f"ivf, {probes} lists": partial(approximate, "ivf", n_probes=probes) for probes in (4, 16)}
        made["sq8"] = partial(approximate, "sq8")
        made |= {f"hnsw, {width} wide": partial(approximate, "hnsw", n_candidates=width) for width in (64, 256)}
    if find_spec("milvus_lite") is not None:
        made["milvus lite"] = partial(MilvusIndex, DIM, str(folder / "items.db"), recreate=True)
    return made


def drawn(n_items: int, n_queries: int, clusters: int) -> tuple[Tensor, Tensor]:
    """Items (N, D) and queries (B, D)."""
    torch.manual_seed(0)
    both = torch.randn(n_items + n_queries, DIM)
    if clusters:
        centers = torch.randn(clusters, DIM)
        both = centers[torch.randint(clusters, (len(both),))] + SPREAD * both
    return both[:n_items], both[n_items:]


def one_by_one(index: ItemIndex, queries: Tensor, allowed: np.ndarray | None = None) -> tuple[TopK, float]:
    """What is found, and the median CPU milliseconds of a query, after one that does not count."""
    index.search(queries[:1], K, allowed=allowed)
    parts, times = [], []
    for query in queries.split(1):
        began = time.process_time()
        parts.append(index.search(query, K, allowed=allowed))
        times.append(1e3 * (time.process_time() - began))
    return TopK(*(torch.cat(column) for column in zip(*parts, strict=True))), float(np.median(times))


def spent(work: Callable[[], object]) -> float:
    """CPU milliseconds."""
    began = time.process_time()
    work()
    return 1e3 * (time.process_time() - began)


if __name__ == "__main__":
    jsonargparse.auto_cli(main, as_positional=False)
