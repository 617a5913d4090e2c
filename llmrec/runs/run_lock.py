"""Lock of a run's folder, which names the process that holds it, so that two runs never write to one folder.

The operating system holds the lock for as long as the process lives, and frees that of a process that was killed.
"""

from __future__ import annotations

import json
import os
import socket
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path

from accelerate import Accelerator
from filelock import FileLock, Timeout

from llmrec.engines.accelerator import all_reduce_sum
from llmrec.errors import ConfigError

LOCK, HOLDER = ".run.lock", ".run.lock.json"
_held: list[FileLock] = []  # of the run of this process


def lock_folder(folder: Path, accelerator: Accelerator) -> None:
    """Lock the folder of a run; the first process does it for all.

    Args:
        folder: Folder, which is created.
        accelerator: Processes of the run.

    Raises:
        ConfigError: If another run holds it; the message names its process, host and start.
    """
    folder.mkdir(parents=True, exist_ok=True)
    problem = _acquire(folder) if accelerator.process_index == 0 else None
    if all_reduce_sum(int(problem is not None), accelerator):
        raise ConfigError(problem or f"output={folder}: another run writes to it; the first process names it.")


def unlock_folder() -> None:
    """Free the folder that this process has locked, if any."""
    while _held:
        lock = _held.pop()
        with suppress(OSError):
            Path(lock.lock_file).with_name(HOLDER).unlink(missing_ok=True)
        lock.release()


def _acquire(folder: Path) -> str | None:
    """Lock a folder, and return None; or return who has locked it."""
    unlock_folder()
    lock = FileLock(folder / LOCK, thread_local=False)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return f"output={folder}: {_describe_holder(folder)} writes to it. Wait until it ends, or give another output."
    _held.append(lock)
    started = datetime.now(timezone.utc).isoformat(timespec="seconds")
    holder = {"pid": os.getpid(), "host": socket.gethostname(), "started": started}
    (folder / HOLDER).write_text(json.dumps(holder), encoding="utf-8")
    return None


def _describe_holder(folder: Path) -> str:
    try:
        holder = json.loads((folder / HOLDER).read_text(encoding="utf-8"))
        return f"another run, process {holder['pid']} on {holder['host']} since {holder['started']},"
    except (OSError, ValueError, KeyError, TypeError):  # it has just begun, or just ended
        return "another run"
