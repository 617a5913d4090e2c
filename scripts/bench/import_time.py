"""What `llmrec --help` and `import llmrec` cost, in CPU time of a process from its start to its end.

python scripts/bench/import_time.py [--rounds 9] [--json PATH]
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from pathlib import Path

import jsonargparse
from comparison import Row, report

HELP = "from llmrec.cli.main import main; main(['--help'])"
WORK = {"llmrec --help": HELP, "import llmrec": "import llmrec", "python alone": "pass"}


def main(rounds: int = 9, json: Path | None = None) -> None:
    spent: dict[str, list[float]] = {work: [] for work in WORK}
    for _ in range(rounds + 1):
        for work, seconds in spent.items():
            seconds.append(cpu_seconds(WORK[work]))
    rows = [Row(work, statistics.median(seconds[1:]), "CPU s") for work, seconds in spent.items()]  # the first warms up
    report(rows, json)


def cpu_seconds(code: str) -> float:
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL)
    status, usage = os.wait4(process.pid, 0)[1:]
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{code} failed with exit status {process.returncode}")
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    jsonargparse.auto_cli(main, as_positional=False)
