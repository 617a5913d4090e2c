"""Reading a catalog: ours, exactly and fast, beside what sentence-transformers does by default; on one thread.

    OMP_NUM_THREADS=1 python scripts/bench/encode.py --items FOLDER/items.parquet [--peer_python PATH]
        [--json PATH] [--column title] [--texts 600] [--long_texts 60] [--rounds 5] [--profile true] [--device cuda]

The peer runs in its own environment (`PATH` is the interpreter of one that has sentence-transformers), and gives no
rows without. Rounds alternate, and CPU time is counted, so that other work on the machine counts little, or on a GPU
the time until all vectors are there; tokenising is part of it. Long texts are titles joined to about 160 tokens. A
ratio is the median of the rounds' ratios.
"""

from __future__ import annotations

import statistics
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from json import dumps, loads
from pathlib import Path

import jsonargparse
import numpy as np
import pyarrow.parquet
import torch
from clock import seconds_of, unit_of
from machine import describe, write_record
from numpy.typing import NDArray

from llmrec.backbones.linear_kernels import choose_fastest
from llmrec.backbones.model_files.resolve import resolve_backbone
from llmrec.backbones.text_backbone import TextBackbone
from llmrec.config.backbone import BackboneConfig, EncodePrecision
from llmrec.utils.text import format_table

MAX_TOKENS = 256  # the peer's own limit for MiniLM
LONG = 160  # tokens
COMPARED = 600  # texts that are read plainly as well
READINGS: tuple[EncodePrecision, ...] = ("fp32", "auto")
PEER = "sentence-transformers"
# Answers each line of texts with a line of the seconds they took; what libraries print goes to stderr.
WORKER = """
import json, os, sys, time
answers = os.dup(1)
os.dup2(2, 1)
import torch
from sentence_transformers import SentenceTransformer, __version__
torch.set_num_threads(1)
model, now = SentenceTransformer(sys.argv[1], device=sys.argv[2]), getattr(time, sys.argv[3])
for line in sys.stdin:
    texts, began = json.loads(line), now()
    model.encode(texts, show_progress_bar=False)
    answer = {"seconds": now() - began, "version": __version__, "torch": torch.__version__}
    os.write(answers, (json.dumps(answer) + chr(10)).encode())
"""

Seconds = Callable[[Sequence[str]], float]
Costs = tuple[float, float | None, float | None, tuple[float, float] | None]  # as they come in a Row


@dataclass(frozen=True)
class Row:
    """Milliseconds a text, the median of the rounds; spread: the middle half of the rounds' ratios.

    cosine: the least to the plain model in fp32. overlap: share of the ten nearest neighbors that are the same.
    """

    work: str
    ours: float
    peer: float | None
    ratio: float | None
    spread: tuple[float, float] | None
    cosine: float
    overlap: float
    unit: str


class Peer:
    """sentence-transformers in a process of its own."""

    def __init__(self, python: Path, model: str, device: str) -> None:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        now = "process_time" if device == "cpu" else "perf_counter"
        self.process = subprocess.Popen([str(python), "-c", WORKER, model, device, now], text=True, **pipes)
        self.version = ""

    def seconds(self, texts: Sequence[str]) -> float:
        self.process.stdin.write(dumps(list(texts)) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{PEER} ended with {self.process.wait()}; what it said stands above")
        answer = loads(line)
        self.version = f"{answer['version']}, torch {answer['torch']}"
        return float(answer["seconds"])


def main(
    items: Path,
    column: str = "title",
    backbone: str = "packaged:all-MiniLM-L6-v2",
    peer_python: Path | None = None,
    texts: int = 600,
    long_texts: int = 60,
    rounds: int = 5,
    profile: bool = False,
    device: str = "cpu",
    json: Path | None = None,
) -> None:
    torch.set_num_threads(1)
    own = {
        reading: TextBackbone.load(BackboneConfig(backbone, max_tokens=MAX_TOKENS, encode_precision=reading)).to(device)
        for reading in READINGS
    }
    exact = own["fp32"]
    peer = Peer(peer_python, resolve_backbone(backbone).path, device) if peer_python else None
    clocks = {reading: clock(one, device) for reading, one in own.items()} | ({PEER: peer.seconds} if peer else {})
    titles = [title for title in pyarrow.parquet.read_table(items, columns=[column])[column].to_pylist() if title]
    short = titles[:: max(len(titles) // texts, 1)][:texts]
    rows = []
    for name, part in (("short titles", short), (f"~{LONG} tokens", joined(exact, titles, long_texts))):
        lengths = exact.tokenize(part).lengths
        print(f"{name}: {len(part)} texts of {lengths.mean():.1f} tokens ({lengths.min()} to {lengths.max()})")
        some = np.linspace(0, len(part) - 1, min(len(part), COMPARED)).astype(int)
        plain = plainly(exact, [part[row] for row in some])
        rows += [
            Row(f"{name}, {reading}", *costs, *fidelity(own[reading], part, some, plain), f"{unit_of(device)} a text")
            for reading, costs in measure(part, clocks, rounds).items()
        ]
        print("\n".join(table(rows[-2:])) + "\n", flush=True)
        if profile:
            for one in own.values():
                show_profile(one, part)
    machine = describe() | {"fp32": str(choose_fastest(reduced=False)), "auto": str(choose_fastest(reduced=True))}
    machine |= {PEER: peer.version} if peer else {}
    cpu = f"{machine['cpu']}, one thread; fp32: {machine['fp32']}, auto: {machine['auto']}"
    print(cpu if device == "cpu" else machine["gpu"])
    write_record(json, [asdict(row) for row in rows], machine)


def table(rows: list[Row]) -> list[str]:
    head = ["work", "ours, ms", f"{PEER}, ms", "ratio", "middle half", "1 - cosine", "top-10 overlap"]
    body = [[r.work, f"{r.ours:.3f}", f"{r.peer:.3f}" if r.peer else "", f"{r.ratio:.2f}" if r.ratio else "",
             "{:.2f} to {:.2f}".format(*r.spread) if r.spread else "", f"{1 - r.cosine:.1e}", f"{r.overlap:.3f}"]
            for r in rows]  # fmt: skip
    return format_table([head, *body])


def clock(backbone: TextBackbone, device: str) -> Seconds:
    return lambda texts: seconds_of(lambda: backbone.encode(backbone.tokenize(texts)), device)


def joined(backbone: TextBackbone, titles: Sequence[str], n: int) -> list[str]:
    """n texts of about LONG tokens, of neighboring titles."""
    mean = float(backbone.tokenize(titles[:200]).lengths.mean()) - 2  # without CLS and SEP
    each = max(round((LONG - 2) / mean), 1)
    starts = np.linspace(0, len(titles) - each, n).astype(int)
    return [" ".join(titles[start : start + each]) for start in starts]


@torch.no_grad()
def plainly(backbone: TextBackbone, texts: Sequence[str]) -> NDArray[np.float32]:
    """Vectors by transformers' own model, each text alone."""
    tokens = backbone.tokenize(texts)
    rows = (tokens.get_batch(np.array([row]), backbone.device) for row in range(len(tokens)))
    return torch.cat([backbone(*row) for row in rows]).cpu().numpy()


def measure(texts: Sequence[str], clocks: dict[str, Seconds], rounds: int) -> dict[str, Costs]:
    """Of each reading; one round more warms up."""
    spent: dict[str, list[float]] = {name: [] for name in clocks}
    for _ in range(rounds + 1):
        for name, seconds in clocks.items():
            spent[name].append(1000 * seconds(texts) / len(texts))
    costs: dict[str, Costs] = {}
    for reading in READINGS:
        ours, peer = spent[reading][1:], spent.get(PEER, [])[1:]
        costs[reading] = statistics.median(ours), None, None, None
        if peer:
            ratios = [other / one for one, other in zip(ours, peer, strict=True)]
            low, high = np.quantile(ratios, (0.25, 0.75)).tolist()
            costs[reading] = statistics.median(ours), statistics.median(peer), statistics.median(ratios), (low, high)
    return costs


def fidelity(
    backbone: TextBackbone, texts: Sequence[str], some: NDArray[np.int64], plain: NDArray[np.float32]
) -> tuple[float, float]:
    """Least cosine of the texts at `some` to their plain vectors, and overlap of neighbors."""
    vectors = backbone.encode(backbone.tokenize(texts)).numpy()[some]
    return float((vectors * plain).sum(1).min()), overlap(vectors, plain)


def overlap(ours: NDArray[np.float32], plain: NDArray[np.float32], n: int = 10) -> float:
    """The share of the n nearest other texts that both name."""
    n = min(n, len(plain) - 1)
    nearest = []
    for table in (ours, plain):
        scores = table @ table.T
        np.fill_diagonal(scores, -np.inf)
        nearest.append(np.argpartition(-scores, n, axis=1)[:, :n])
    return float(np.mean([len(np.intersect1d(a, b)) / n for a, b in zip(*nearest, strict=True)]))


def show_profile(backbone: TextBackbone, texts: Sequence[str]) -> None:
    """Where the time goes: the share of each operator."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as profiler

    tokens = backbone.tokenize(texts)
    with profiler(activities=[ProfilerActivity.CPU]) as seen:
        backbone.encode(tokens)
    spent = {event.key: event.self_cpu_time_total for event in seen.key_averages()}
    first = sorted(spent.items(), key=lambda pair: -pair[1])[:10]
    shares = (f"{key} {value / sum(spent.values()):.0%}" for key, value in first)
    print(f"  {backbone.config.encode_precision}: " + ", ".join(shares), flush=True)


if __name__ == "__main__":
    jsonargparse.auto_cli(main, as_positional=False)
