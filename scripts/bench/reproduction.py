"""How far a bundle's scores move between kernels, threads and instruction sets, and how small a change is noticed.

    python scripts/bench/reproduction.py --bundle DIR [--bundle DIR ...] [--json PATH]

Each setting loads the bundle in a process of its own and scores its probe again. The unit is the largest move of the
scores when every weight moves by its last bit, as `llmrec/hub/probe.py` measures it; a bundle is refused above its
ALLOWED. Tampering scales one tensor by 1 + eps, with eps a power of two; the table has the smallest eps that is refused
in the least sensitive tensor.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import torch
from machine import describe, write_record

from llmrec.hub import probe
from llmrec.hub.bundle import load_bundle
from llmrec.hub.bundle_record import read_record
from llmrec.models.recommender_model import RecommenderModel
from llmrec.utils.reproducibility import are_products_reproducible
from llmrec.utils.text import format_table

SETTINGS: dict[str, dict[str, str]] = {
    "strict (default)": {},
    "MKL's own choice": {"MKL_CBWR": ""},
    "MKL_CBWR=AVX2": {"MKL_CBWR": "AVX2"},
    "MKL_CBWR=COMPATIBLE": {"MKL_CBWR": "COMPATIBLE"},
    "MKL_ENABLE_INSTRUCTIONS=SSE4_2": {"MKL_CBWR": "", "MKL_ENABLE_INSTRUCTIONS": "SSE4_2"},
    "ATEN_CPU_CAPABILITY=default": {"ATEN_CPU_CAPABILITY": "default"},
    "ONEDNN_MAX_CPU_ISA=SSE41": {"ONEDNN_MAX_CPU_ISA": "SSE41"},
    "all of these, 2 threads": {
        "MKL_CBWR": "COMPATIBLE",
        "ATEN_CPU_CAPABILITY": "default",
        "ONEDNN_MAX_CPU_ISA": "SSE41",
        "OMP_NUM_THREADS": "2",
    },
}
SMALLEST, LARGEST = -24, 0  # powers of two that tensors are scaled by one plus


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, action="append", required=True)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        print(json.dumps(measure(given.bundle[0])))
        return
    rows = []
    for folder in given.bundle:
        found = {name: run(folder, setting) for name, setting in SETTINGS.items()}
        rows += [{"bundle": folder.parent.name, "setting": name, **one} for name, one in found.items()]
        name, exponent = smallest_tampering(folder)
        rows.append({"bundle": folder.parent.name, "setting": f"tampering: {name}", "difference": 2.0**exponent})
    body = [[str(row["bundle"]), str(row["setting"]), f"{row['difference']:.2g}"] for row in rows]
    print("\n".join(format_table([["bundle", "setting", "moves"], *body])))
    print(f"allowed: {probe.ALLOWED} moves; tampering: the smallest relative change of the least sensitive tensor")
    write_record(given.json, rows, describe())


def run(folder: Path, setting: dict[str, str]) -> dict[str, object]:
    command = [sys.executable, __file__, "--worker", "--bundle", str(folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **setting}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def measure(folder: Path) -> dict[str, object]:
    difference = probe.score_difference(load_bundle(folder).model, read_record(folder)["probe"])
    return {"difference": difference, "same_bits": difference == 0, "reproducible": are_products_reproducible()}


def smallest_tampering(folder: Path) -> tuple[str, int]:
    """Return the tensor that may change most without being noticed, and the power of two that is noticed there."""
    model, recorded = load_bundle(folder).model, read_record(folder)["probe"]
    found = {name: noticed_from(model, weight, recorded) for name, weight in model.named_parameters()}
    name = max(found, key=lambda name: found[name])
    return name, found[name]


@torch.no_grad()
def noticed_from(model: RecommenderModel, weight: torch.Tensor, recorded: dict[str, object]) -> int:
    saved = weight.clone()
    try:
        for exponent in range(SMALLEST, LARGEST + 1):
            weight.copy_(saved * (1 + 2.0**exponent))
            if not probe.score_difference(model, recorded) <= probe.ALLOWED or not bool(saved.any()):
                return exponent
        return LARGEST + 1
    finally:
        weight.copy_(saved)


if __name__ == "__main__":
    main()
