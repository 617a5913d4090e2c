"""Processes that each run one side of a benchmark with the Python that has it, a round at a time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PEERS = Path(os.environ.get("PEERS", ROOT / ".peers"))
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS"), "1")


def python_of(peer: str | None) -> Path:
    """The interpreter of a peer's environment; of this one for llmrec itself."""
    if peer is None:
        return Path(sys.executable)
    python = PEERS / peer / "bin" / "python"
    if not python.exists():
        raise SystemExit(f"{python} is not there; run scripts/bench/setup_peers {peer}, or leave {peer} out")
    return python


class Worker:
    """A script that answers each line on its input with a line of JSON. Its own words go to the file `told`."""

    def __init__(self, peer: str | None, script: Path, argument: str, told: Path) -> None:
        self.script, self.told = script, told
        environment = os.environ | ONE_THREAD
        if peer is not None:
            environment.pop("PYTHONPATH", None)
        with told.open("w", encoding="utf-8") as words:
            self.process = subprocess.Popen(
                [str(python_of(peer)), str(script), argument],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=words, text=True, env=environment,
            )  # fmt: skip

    def round(self, word: str = "") -> dict[str, Any]:
        """What the next round gave. word: what the script is told before it."""
        if self.process.stdin is None or self.process.stdout is None:
            raise SystemExit(f"{self.script.name} has no pipes")
        try:
            self.process.stdin.write(f"{word}\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # it has ended, and left word why
        answer = self.process.stdout.readline()
        if not answer:
            last = "\n".join(self.told.read_text(encoding="utf-8").splitlines()[-5:])
            raise SystemExit(f"{self.script.name} ended without an answer:\n{last}")
        return json.loads(answer)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
