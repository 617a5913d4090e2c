"""How a worker answers: each line of its input with a line of JSON.

That says how many targets a stretch of training had, and the CPU seconds that it took.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable

from asked import Asked

answers = os.fdopen(os.dup(1), "w")  # the libraries' own words go where errors go
os.dup2(2, 1)


def asked() -> Asked:
    """Of the one argument, JSON."""
    return Asked(**json.loads(sys.argv[1]))


def serve(train: Callable[[], tuple[int, float]]) -> None:
    """train: one round, its targets and CPU seconds."""
    for _ in sys.stdin:
        targets, seconds = train()
        print(json.dumps({"targets": int(targets), "seconds": seconds}), file=answers, flush=True)
