"""Exact top-k: ours against torch's matmul and topk, and against FAISS's flat index.

    OMP_NUM_THREADS=1 python scripts/bench/rank.py [--items '[10000,100000,1000000]'] [--rounds 5] [--json PATH]
        [--device cuda]

CPU time of one thread, or on a GPU, where FAISS has no part, the time until it is done; all ways take their turn in
each round, and medians are compared. Beside them stand the quickest and the slowest round. Vectors are random normal,
so that nothing but their number is known of them. Recall is measured against torch's answer in fp32; `candidates alone`
is what a compressed table finds without the exact vectors.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple, get_args

import jsonargparse
import numpy as np
import torch
from clock import seconds_of, unit_of
from machine import describe, write_record
from torch import Tensor

from llmrec.search.index import recall_at_k
from llmrec.search.quantized_table import Precision, QuantizedTable
from llmrec.search.topk import TopK, top_k
from llmrec.utils.text import format_table

DIM, K = 128, 100
RECALL_QUERIES = 64
Way = Callable[[], object]


class Row(NamedTuple):
    """Medians; spread: quickest to slowest of both."""

    work: str
    ours: float
    peer: float
    ratio: float
    unit: str
    spread: str


def main(
    items: tuple[int, ...] = (10_000, 100_000, 1_000_000),
    users: int = 512,
    rounds: int = 5,
    device: str = "cpu",
    json: Path | None = None,
) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rows = [row for n_items in items for row in of_catalog(n_items, users, rounds, device)]
    machine = describe() | ({"faiss": version("faiss-cpu")} if device == "cpu" else {})
    print(f"top-{K} of N x {DIM}: {machine['cpu']}, one thread, GPU {machine['gpu']}, torch {machine['torch']}\n")
    body = [[r.work, digits(r.ours), digits(r.peer), f"{r.ratio:.2f}", r.unit, r.spread] for r in rows]
    print("\n".join(format_table([["work", "ours", "peer", "peer / ours", "unit", "spread"], *body])))
    write_record(json, [row._asdict() for row in rows], machine)


def digits(number: float) -> str:
    return f"{number:,.1f}" if number >= 10 else f"{number:.4f}"


def of_catalog(n_items: int, users: int, rounds: int, device: str) -> list[Row]:
    vectors = torch.randn(n_items, DIM).to(device)
    queries = torch.randn(users, DIM).to(device)
    flat = flat_index(vectors) if device == "cpu" else None
    tables = {precision: QuantizedTable.from_vectors(vectors, precision) for precision in get_args(Precision)}
    rows: list[Row] = []
    for asked in (queries, queries[:1]):
        spent = in_turn(ways(asked, vectors, flat, tables), rounds if len(asked) > 1 else 4 * rounds, device)
        who = f"{n_items:,} items, {len(asked)} user{'s' * (len(asked) > 1)}"
        for precision in tables:
            for peer in [name for name in spent if name not in tables]:
                work = f"{who}: {precision} against {peer}"
                rows.append(compared(work, spent[precision], spent[peer], unit_of(device)))
    return rows + compressed(vectors, queries[:RECALL_QUERIES], tables)


def flat_index(vectors: Tensor) -> Any:
    import faiss

    faiss.omp_set_num_threads(1)
    flat = faiss.IndexFlatIP(DIM)
    flat.add(vectors.numpy())
    return flat


def ways(queries: Tensor, vectors: Tensor, flat: Any, tables: dict[Precision, QuantizedTable]) -> dict[str, Way]:
    found: dict[str, Way] = {name: lambda table=table: top_k(table, queries, K) for name, table in tables.items()}
    found["torch matmul + topk"] = lambda: (queries @ vectors.T).topk(K)
    if flat is not None:
        found["faiss flat"] = lambda: flat.search(queries.numpy(), K)
    return found


def in_turn(ways: dict[str, Way], rounds: int, device: str) -> dict[str, list[float]]:
    """Milliseconds of each way in each round, after one that does not count."""
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds + 1):
        for name, way in ways.items():
            spent[name].append(1e3 * seconds_of(way, device))
    return {name: times[1:] for name, times in spent.items()}


def compared(work: str, ours: list[float], peer: list[float], unit: str) -> Row:
    own, other = float(np.median(ours)), float(np.median(peer))
    spread = ", ".join(f"{digits(min(side))}-{digits(max(side))}" for side in (ours, peer))
    return Row(work, own, other, other / own, unit, spread)


def compressed(vectors: Tensor, queries: Tensor, tables: dict[Precision, QuantizedTable]) -> list[Row]:
    """Recall against exact scores in fp32, and memory of what is scanned against fp32's."""
    right = TopK(*(queries @ vectors.T).topk(K))
    rows, size = [], f"{len(vectors):,} items"
    for name, table in tables.items():
        if not table.compressed:
            continue
        seen_as = table.scanned.float() if table.scale is None else table.scanned.float() * table.scale
        alone = recall_at_k(top_k(QuantizedTable.from_vectors(seen_as), queries, K), right)
        found = recall_at_k(top_k(table, queries, K), right)
        mib = [part.numel() * part.element_size() / 2**20 for part in (table.scanned, vectors)]
        rows.append(Row(f"{size}, {name}: recall, candidates alone", alone, 1.0, 1 / alone, "recall@100", ""))
        rows.append(Row(f"{size}, {name}: recall, head ranked exactly", found, 1.0, 1 / found, "recall@100", ""))
        rows.append(Row(f"{size}, {name}: scanned table", mib[0], mib[1], mib[1] / mib[0], "MiB", ""))
    return rows


if __name__ == "__main__":
    jsonargparse.auto_cli(main, as_positional=False)
