"""Files that are there whole or not at all, also where the power fails, and a clear word where there is no room."""

from __future__ import annotations

import errno
import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from llmrec.errors import StorageError

NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def fsync_rename(partial: Path, path: Path) -> None:
    """Give a written file or folder its name, once all of it is on the disk and not only on its way there."""
    for part in partial.rglob("*"):  # none where it is a file
        fsync_path(part)
    fsync_path(partial)
    partial.replace(path)
    fsync_path(path.parent)


def write_text_atomic(path: Path, text: str) -> None:
    """The file holds `text`, or what it held before."""
    temporary = path.with_name(f".{path.name}.partial")
    try:
        with translate_disk_full(path):
            temporary.write_text(text, encoding="utf-8")
            fsync_rename(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def fsync_path(path: Path) -> None:
    if path.is_dir() and os.name != "posix":  # where folders cannot be opened
        return
    opened = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def sha256_file(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


@contextmanager
def translate_disk_full(path: Path, remedy: str = "") -> Iterator[None]:
    """What is written inside is told about as `path` where the disk, a quota or a limit on file sizes has no room.

    Raises:
        StorageError: so it is. Other errors pass.
    """
    try:
        yield
    except StorageError:
        raise
    except Exception as error:
        number = error.errno if isinstance(error, OSError) and error.errno else _parse_rust_errno(error)
        if number not in NO_ROOM:
            raise
        raise StorageError(
            f"{path} cannot be written: {os.strerror(number)}. Make room or raise the limit{remedy}"
        ) from error


def _parse_rust_errno(error: Exception) -> int:
    """safetensors tells it in its message only."""
    found = re.search(r"\(os error (\d+)\)", str(error))
    return int(found[1]) if found else 0
