"""Lock of a folder, which names the process that holds it, so that two runs never write to one folder.

The operating system holds the lock for as long as the process lives, and frees that of a process that was killed.
"""

from __future__ import annotations

import atexit
import json
import os
import socket
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path

from filelock import FileLock, Timeout

LOCK, HOLDER = ".run.lock", ".run.lock.json"
_held: list[FileLock] = []  # of this process


def lock(folder: Path) -> str | None:
    """Lock a folder until this process ends, locks another one or calls `unlock`.

    Args:
        folder: An existing folder.

    Returns:
        None, or the process that has locked it, its host and its start.
    """
    unlock()
    path, held = folder / LOCK, FileLock(folder / LOCK, thread_local=False)
    while True:
        try:
            held.acquire(timeout=0)
        except Timeout:
            return _describe_holder(folder)
        if path.exists():
            break
        held.release()  # a run that ended in this moment has removed the file
    _held.append(held)
    started = datetime.now(timezone.utc).isoformat(timespec="seconds")
    holder = {"pid": os.getpid(), "host": socket.gethostname(), "started": started}
    (folder / HOLDER).write_text(json.dumps(holder), encoding="utf-8")
    return None


@atexit.register
def unlock() -> None:
    """Free the folder that this process has locked, if any, and leave nothing of the lock in it."""
    while _held:
        held = _held.pop()
        for name in (HOLDER, LOCK):
            with suppress(OSError):
                Path(held.lock_file).with_name(name).unlink(missing_ok=True)
        held.release()


def _describe_holder(folder: Path) -> str:
    try:
        holder = json.loads((folder / HOLDER).read_text(encoding="utf-8"))
        return f"another run, process {holder['pid']} on {holder['host']} since {holder['started']},"
    except (OSError, ValueError, KeyError, TypeError):  # it has just begun, or just ended
        return "another run"
