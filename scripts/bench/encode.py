"""Reading a catalog: ours, exactly and fast, beside what sentence-transformers does by default; on one thread.

    OMP_NUM_THREADS=1 python scripts/bench/encode.py --items FOLDER/items.parquet [--peer_python PATH]
        [--json PATH] [--column title] [--texts 600] [--long_texts 60] [--rounds 5] [--profile true]

The peer runs in its own environment (`PATH` is the interpreter of one that has sentence-transformers), and gives no
rows without. Rounds alternate, and CPU time is counted, so that other work on the machine counts little; tokenising is
part of it. Long texts are titles joined to about 160 tokens. A ratio is the median of the rounds' ratios.
"""

from __future__ import annotations

import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from json import dumps, loads
from pathlib import Path

import jsonargparse
import numpy as np
import pyarrow.parquet
import torch
from machine import describe, write_record
from numpy.typing import NDArray

from llmrec.config import BackboneConfig
from llmrec.evaluation.columns import aligned
from llmrec.models.backbone import Backbone
from llmrec.models.fast_linear import fastest
from llmrec.models.locate import locate

MAX_TOKENS = 256  # the peer's own limit for MiniLM
LONG = 160  # tokens
PEER = "sentence-transformers"
# Answers each line of texts with a line of CPU seconds and vectors; what libraries print goes to stderr.
WORKER = """
import json, os, sys, time
answers = os.dup(1)
os.dup2(2, 1)
import torch
from sentence_transformers import SentenceTransformer, __version__
torch.set_num_threads(1)
model = SentenceTransformer(sys.argv[1], device="cpu")
for line in sys.stdin:
    texts, began = json.loads(line), time.process_time()
    vectors = model.encode(texts, show_progress_bar=False)
    spent = time.process_time() - began
    answer = {"seconds": spent, "vectors": vectors.tolist(), "version": __version__, "torch": torch.__version__}
    os.write(answers, (json.dumps(answer) + chr(10)).encode())
"""

Read = Callable[[Sequence[str]], tuple[float, NDArray[np.float32]]]


@dataclass(frozen=True)
class Row:
    """Milliseconds a text, the median of the rounds; spread: the middle half of the rounds' ratios.

    cosine: the least to the plain model in fp32. overlap: share of the ten nearest neighbours that are the same.
    """

    work: str
    ours: float
    peer: float | None
    ratio: float | None
    spread: tuple[float, float] | None
    cosine: float
    overlap: float
    unit: str = "CPU ms a text"


class Peer:
    """sentence-transformers in a process of its own."""

    def __init__(self, python: Path, model: str) -> None:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.process = subprocess.Popen([str(python), "-c", WORKER, model], text=True, **pipes)
        self.version = ""

    def read(self, texts: Sequence[str]) -> tuple[float, NDArray[np.float32]]:
        self.process.stdin.write(dumps(list(texts)) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{PEER} ended with {self.process.wait()}; what it said stands above")
        answer = loads(line)
        self.version = f"{answer['version']}, torch {answer['torch']}"
        return answer["seconds"], np.array(answer["vectors"], np.float32)


def main(
    items: Path,
    column: str = "title",
    backbone: str = "packaged:all-MiniLM-L6-v2",
    peer_python: Path | None = None,
    texts: int = 600,
    long_texts: int = 60,
    rounds: int = 5,
    profile: bool = False,
    json: Path | None = None,
) -> None:
    torch.set_num_threads(1)
    exact, fast = (Backbone.load(BackboneConfig(backbone, max_tokens=MAX_TOKENS, reading=r)) for r in ("exact", "fast"))
    peer = Peer(peer_python, locate(backbone).path) if peer_python else None
    readers = {"exact": reader(exact), "fast": reader(fast), **({PEER: peer.read} if peer else {})}
    titles = [title for title in pyarrow.parquet.read_table(items, columns=[column])[column].to_pylist() if title]
    short = titles[:: max(len(titles) // texts, 1)][:texts]
    rows = []
    for name, part in (("short titles", short), (f"~{LONG} tokens", joined(exact, titles, long_texts))):
        lengths = exact.tokens(part).lengths
        print(f"{name}: {len(part)} texts of {lengths.mean():.1f} tokens ({lengths.min()} to {lengths.max()})")
        rows += measure(name, part, readers, plainly(exact, part), rounds)
        print("\n".join(table(rows[-2:])) + "\n", flush=True)
        if profile:
            for reading in (exact, fast):
                show_profile(reading, part)
    machine = describe() | {"exact": str(fastest(reduced=False)), "fast": str(fastest(reduced=True))}
    machine |= {PEER: peer.version} if peer else {}
    print(f"{machine['cpu']}, one thread; exact: {machine['exact']}, fast: {machine['fast']}")
    write_record(json, [asdict(row) for row in rows], machine)


def table(rows: list[Row]) -> list[str]:
    head = ["work", "ours, ms", f"{PEER}, ms", "ratio", "middle half", "1 - cosine", "top-10 overlap"]
    body = [[r.work, f"{r.ours:.3f}", f"{r.peer:.3f}" if r.peer else "", f"{r.ratio:.2f}" if r.ratio else "",
             "{:.2f} to {:.2f}".format(*r.spread) if r.spread else "", f"{1 - r.cosine:.1e}", f"{r.overlap:.3f}"]
            for r in rows]  # fmt: skip
    return aligned([head, *body])


def reader(backbone: Backbone) -> Read:
    def read(texts: Sequence[str]) -> tuple[float, NDArray[np.float32]]:
        began = time.process_time()
        vectors = backbone.encode(backbone.tokens(texts))
        return time.process_time() - began, vectors.numpy()

    return read


def joined(backbone: Backbone, titles: Sequence[str], n: int) -> list[str]:
    """n texts of about LONG tokens, of neighbouring titles."""
    mean = float(backbone.tokens(titles[:200]).lengths.mean()) - 2  # without CLS and SEP
    each = max(round((LONG - 2) / mean), 1)
    starts = np.linspace(0, len(titles) - each, n).astype(int)
    return [" ".join(titles[start : start + each]) for start in starts]


@torch.no_grad()
def plainly(backbone: Backbone, texts: Sequence[str]) -> NDArray[np.float32]:
    """Vectors by transformers' own model, each text alone."""
    tokens = backbone.tokens(texts)
    rows = (tokens.batch(np.array([row]), backbone.device) for row in range(len(tokens)))
    return torch.cat([backbone(*row) for row in rows]).numpy()


def measure(
    name: str, texts: Sequence[str], readers: dict[str, Read], plain: NDArray[np.float32], rounds: int
) -> list[Row]:
    spent: dict[str, list[float]] = {reader: [] for reader in readers}
    vectors = {reader: read(texts)[1] for reader, read in readers.items()}  # warms up
    for _ in range(rounds):
        for reader, read in readers.items():
            spent[reader].append(1000 * read(texts)[0] / len(texts))
    rows = []
    for reader in ("exact", "fast"):
        ratios = [peer / ours for ours, peer in zip(spent[reader], spent[PEER], strict=True)] if PEER in spent else []
        rows.append(
            Row(
                work=f"{name}, {reader}",
                ours=statistics.median(spent[reader]),
                peer=statistics.median(spent[PEER]) if ratios else None,
                ratio=statistics.median(ratios) if ratios else None,
                spread=tuple(float(q) for q in np.quantile(ratios, (0.25, 0.75))) if ratios else None,  # type: ignore[arg-type]
                cosine=float((vectors[reader] * plain).sum(1).min()),
                overlap=overlap(vectors[reader], plain),
            )
        )
    return rows


def overlap(ours: NDArray[np.float32], plain: NDArray[np.float32], n: int = 10) -> float:
    """The share of the n nearest other texts that both name."""
    n = min(n, len(plain) - 1)
    nearest = []
    for table in (ours, plain):
        scores = table @ table.T
        np.fill_diagonal(scores, -np.inf)
        nearest.append(np.argpartition(-scores, n, axis=1)[:, :n])
    return float(np.mean([len(np.intersect1d(a, b)) / n for a, b in zip(*nearest, strict=True)]))


def show_profile(backbone: Backbone, texts: Sequence[str]) -> None:
    """Where the time goes: the share of each operator."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as profiler

    tokens = backbone.tokens(texts)
    with profiler(activities=[ProfilerActivity.CPU]) as seen:
        backbone.encode(tokens)
    spent = {event.key: event.self_cpu_time_total for event in seen.key_averages()}
    first = sorted(spent.items(), key=lambda pair: -pair[1])[:10]
    shares = (f"{key} {value / sum(spent.values()):.0%}" for key, value in first)
    print(f"  {backbone.config.reading}: " + ", ".join(shares), flush=True)


if __name__ == "__main__":
    jsonargparse.auto_cli(main, as_positional=False)
