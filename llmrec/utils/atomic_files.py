"""Files that are written completely or not at all, even if power fails, and errors for a full disk."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from llmrec.errors import StorageError

NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def fsync_rename(partial: Path, path: Path) -> None:
    """Write a file or folder through to the disk, then give it its name.

    Args:
        partial: The written file or folder.
        path: Its final name.
    """
    for part in partial.rglob("*"):  # empty for a file
        fsync_path(part)
    fsync_path(partial)
    partial.replace(path)
    fsync_path(path.parent)


def write_text_atomic(path: Path, text: str) -> None:
    """Write a text file so that it holds the new text or, after a failure, the old one.

    Args:
        path: The file.
        text: New content.

    Raises:
        StorageError: If there is no room.
    """
    temporary = path.with_name(f".{path.name}.partial")
    try:
        with translate_disk_full(path):
            temporary.write_text(text, encoding="utf-8")
            fsync_rename(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def fsync_path(path: Path) -> None:
    """Write a file or folder through to the disk.

    Args:
        path: File or folder.
    """
    if path.is_dir() and os.name != "posix":  # folders cannot be opened there
        return
    opened = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def sha256_file(path: Path) -> str:
    """Compute the SHA-256 of a file.

    Args:
        path: The file.

    Returns:
        Hexadecimal digest.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


@contextmanager
def first_folder(folder: Path) -> Iterator[Path]:
    """Create a folder of a cache; of several runs that do so at once, the first to finish gives it its content.

    Args:
        folder: Folder to create.

    Yields:
        Temporary folder to write to.
    """
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        try:
            partial.rename(folder)
        except OSError:  # another run was faster
            if not folder.is_dir():
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def translate_disk_full(path: Path, remedy: str = "") -> Iterator[None]:
    """Raise StorageError if the disk, a quota or a limit on file sizes has no room for a write inside.

    Args:
        path: File or folder named in the message.
        remedy: Text appended to the message.

    Raises:
        StorageError: If there is no room; other errors pass unchanged.
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
            f"{path}: cannot be written ({os.strerror(number)}). Make room or raise the limit{remedy}."
        ) from error


def _parse_rust_errno(error: Exception) -> int:
    """Parse the error number from a message of safetensors, which has no other place for it."""
    found = re.search(r"\(os error (\d+)\)", str(error))
    return int(found[1]) if found else 0
