"""Time products of matrices with MKL's strict mode and without, at the sizes that llmrec multiplies.

    python scripts/bench/products.py [--rounds 15] [--json PATH]

One process for each mode, rounds in turn, one thread, CPU time; medians of the rounds and the middle half of their
ratios.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np
from machine import describe, write_record

from llmrec.utils.reproducibility import STRICT, VARIABLE
from llmrec.utils.text import format_table

SHAPES = {
    "a layer of MiniLM, a packed row": (2048, 384, 1536),
    "the same, back": (2048, 1536, 384),
    "a layer of a sequence encoder": (3200, 64, 256),
    "scores of 64 users, 9,000 items": (64, 64, 9000),
    "scores of one user": (1, 64, 9000),
    "one text through a layer": (12, 384, 1536),
}
WORKER = """
import json, sys, time, torch
torch.set_num_threads(1)
for line in sys.stdin:
    rows, width, columns = json.loads(line)
    x, weight, spent = torch.randn(rows, width), torch.randn(columns, width), []
    repeats = max(int(2e8 / (rows * width * columns)), 1)
    for _ in range(3):
        began = time.process_time()
        for _ in range(repeats):
            x @ weight.T
        spent.append((time.process_time() - began) / repeats)
    print(min(spent), flush=True)
"""


class Mode:
    """A process that multiplies with one value of MKL's variable."""

    def __init__(self, value: str) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", VARIABLE: value}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen([sys.executable, "-c", WORKER], env=environment, **pipes)

    def measure(self, shape: tuple[int, int, int]) -> float:
        """Return the CPU seconds of one product."""
        self.process.stdin.write(json.dumps(shape) + "\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    own, strict = Mode(""), Mode(STRICT)
    rows = [measure_row(name, shape, own, strict, given.rounds) for name, shape in SHAPES.items()]
    head = ["product", "own choice, ms", "strict, ms", "strict / own", "middle half"]
    body = [[row["product"], *(f"{row[name]:.3f}" for name in ("own", "strict")), f"{row['ratio']:.2f}",
             f"{row['low']:.2f} to {row['high']:.2f}"] for row in rows]  # fmt: skip
    print("\n".join(format_table([head, *body])))
    write_record(given.json, rows, describe())


def measure_row(name: str, shape: tuple[int, int, int], own: Mode, strict: Mode, rounds: int) -> dict[str, object]:
    pairs = [(own.measure(shape), strict.measure(shape)) for _ in range(rounds + 1)][1:]
    ratios = [second / first for first, second in pairs]
    low, high = np.quantile(ratios, (0.25, 0.75)).tolist()
    milliseconds = [1000 * statistics.median(side) for side in zip(*pairs, strict=True)]
    label = f"{name} ({' x '.join(map(str, shape))})"
    return {"product": label, "own": milliseconds[0], "strict": milliseconds[1], "ratio": statistics.median(ratios),
            "low": low, "high": high}  # fmt: skip


if __name__ == "__main__":
    main()
