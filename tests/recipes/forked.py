"""Runs of recipes/finetune.py in processes of their own, forked from this one, which has imported everything: they
start in milliseconds. SIGKILL comes from the kernel's timer and strikes wherever the process is, in a system call too.

A request is a JSON object a line: `folder` to run in, `arguments` of the recipe, and `kill`, null or when: `seconds`
after the `nth` time that `phase` begins. The answer is the process's status.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import logging
import os
import runpy
import signal
import sys
import time
from pathlib import Path

RECIPE = Path(__file__).resolve().parents[2] / "recipes" / "finetune.py"
WARM = (
    "accelerate llmrec.recommender llmrec.jobs.comparison matplotlib.figure matplotlib.backends.backend_agg peft "
    "scipy.optimize transformers.models.bert.modeling_bert transformers.optimization jinja2 yaml jsonargparse"
).split()


class SignalEvent(ctypes.Structure):
    """POSIX's `struct sigevent`, as Linux has it."""

    _fields_ = (
        ("value", ctypes.c_void_p),
        ("signal", ctypes.c_int),
        ("notify", ctypes.c_int),
        ("rest", ctypes.c_byte * 48),
    )


def kill_after(seconds: float) -> None:
    libc, timer = ctypes.CDLL(None, use_errno=True), ctypes.c_void_p()
    event = SignalEvent(None, signal.SIGKILL, 0)
    whole, part = divmod(max(round(seconds * 1e9), 1), 10**9)
    when = (ctypes.c_long * 4)(0, 0, whole, part)  # no interval, then this once
    if libc.timer_create(time.CLOCK_MONOTONIC, ctypes.byref(event), ctypes.byref(timer)) or libc.timer_settime(
        timer, 0, when, None
    ):
        raise OSError(ctypes.get_errno(), "no timer")


class Killer(logging.Handler):
    """Sets the timer at the phase that it waits for."""

    def __init__(self, phase: str, nth: int, seconds: float) -> None:
        super().__init__()
        self.phase, self.left, self.seconds = phase, nth, seconds

    def emit(self, record: logging.LogRecord) -> None:
        facts = getattr(record, "facts", {})
        if facts.get("phase") == self.phase and "seconds" not in facts:
            self.left -= 1
            if self.left == 0:
                kill_after(self.seconds)


def run(request: dict[str, object]) -> None:
    """In the forked process, whose status is the recipe's."""
    os.chdir(str(request["folder"]))
    os.environ["LLMREC_CACHE"] = "cache"
    output = os.open("output.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    sys.argv = [str(RECIPE), *request["arguments"]]
    if request["kill"] is not None:
        logging.getLogger("llmrec").addHandler(Killer(**request["kill"]))
    runpy.run_path(str(RECIPE), run_name="__main__")


def serve() -> None:
    for name in WARM:
        importlib.import_module(name)
    runpy.run_path(str(RECIPE), run_name="imports alone")
    for line in sys.stdin:
        process = os.fork()
        if process == 0:
            status = 1
            try:
                run(json.loads(line))
                status = 0
            except SystemExit as ended:
                status = ended.code if isinstance(ended.code, int) else 1
            except BaseException:
                sys.excepthook(*sys.exc_info())
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(status)
        print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), flush=True)


if __name__ == "__main__":
    serve()
