"""Layout of the files in a bundle, and atomic replacement of its folder."""

from __future__ import annotations

import glob
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from llmrec.config.backbone import Strategy
from llmrec.errors import BundleError
from llmrec.utils.atomic_files import fsync_rename, sha256_file, translate_disk_full

FORMAT = 3
SNAPSHOTS = "snapshots"  # in the Hub's cache: a folder for each revision, with links into the `blobs` next to it


@dataclass(frozen=True)
class BundleLayout:
    """Names of the files in a bundle."""

    settings: str = "llmrec.json"
    """Record of the bundle."""
    heads: str = "heads.safetensors"
    """Weights of the recommender model."""
    items: str = "items.safetensors"
    """Text vectors of the catalog, and which items have training events."""
    drift: str = "drift.safetensors"
    """Weights of the drift head."""
    world: str = "world.safetensors"
    """Counts of the drift head."""
    catalog: str = "catalog.parquet"
    """Items."""
    backbone: str = "backbone.safetensors"
    """Trained weights of the backbone."""
    adapter: str = "adapter_model.safetensors"
    """PEFT's weights of the adapter."""
    adapter_config: str = "adapter_config.json"
    """PEFT's description of the adapter."""
    card: str = "README.md"
    """Model card."""


LAYOUT = BundleLayout()
TUNED: dict[Strategy, tuple[str, ...]] = {  # files with the trained backbone weights of each strategy
    "none": (),
    "frozen": (),
    "last_k": (LAYOUT.backbone,),
    "lora": (LAYOUT.adapter_config, LAYOUT.adapter),
    "peft": (LAYOUT.adapter_config, LAYOUT.adapter),
    "full": (LAYOUT.backbone,),
}


def check_destination(folder: Path, marker: str = LAYOUT.settings, *, kind: str = "a bundle") -> None:
    """Refuse to replace a folder of another kind, before any work is done.

    Args:
        folder: Folder to write.
        marker: File that a folder of this kind has.
        kind: Description of the kind, for the message.

    Raises:
        BundleError: If `folder` is a file, or a folder with other files in it.
    """
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir()) and not (folder / marker).is_file()):
        raise BundleError(f"{folder}: exists and is not {kind}. Choose another path, or move it away.")


@contextmanager
def atomic_folder(folder: Path, marker: str = LAYOUT.settings, *, kind: str = "a bundle") -> Iterator[Path]:
    """Create a folder that replaces `folder` if all goes well and is removed otherwise.

    Args:
        folder: Folder to replace.
        marker: File that a folder of this kind has.
        kind: Description of the kind, for the message.

    Yields:
        Temporary folder to write to.

    Raises:
        BundleError: If `folder` is a file, or a folder with other files in it.
        StorageError: If there is no room.
    """
    check_destination(folder, marker, kind=kind)
    folder = folder.resolve()  # "." has no name to derive another from, and a link stays a link
    folder.parent.mkdir(parents=True, exist_ok=True)
    recover_folder(folder)
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    old = folder.with_name(f".{folder.name}.{os.getpid()}.old")
    partial.mkdir()
    try:
        with translate_disk_full(folder):
            yield partial
            if folder.exists():
                folder.replace(old)
            fsync_rename(partial, folder)
    finally:
        if old.exists() and not folder.exists():
            old.replace(folder)  # the swap itself failed halfway
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def recover_folder(folder: Path) -> None:
    """Clean up after a save that was killed: restore the old folder if no new one replaced it.

    Args:
        folder: Folder that was being replaced.
    """
    for left in folder.parent.glob(f".{glob.escape(folder.name)}.*"):
        *_, pid, kind = left.name.split(".")
        if not pid.isdigit() or kind not in ("old", "partial") or _process_exists(int(pid)):
            continue
        if kind == "old" and not folder.exists():
            left.replace(folder)
        else:
            shutil.rmtree(left, ignore_errors=True)


def _process_exists(pid: int) -> bool:
    """Return whether another process that may be saving has this id."""
    if os.name != "posix":  # elsewhere os.kill would end it
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return pid != os.getpid()


def bundle_file(folder: Path, name: str) -> Path:
    """Return the path of a bundle's file.

    Args:
        folder: Folder of the bundle.
        name: Name of the file.

    Returns:
        The path.

    Raises:
        BundleError: If the file is missing, or is outside the folder by its name or by a link; only the Hub's cache
            links to
            files next to the folder.
    """
    path, home = folder / name, folder.resolve()
    if Path(name).name != name or not path.is_file():
        raise BundleError(f"{folder}: {name} is missing. Copy or download the bundle again.")
    there = path.resolve().parent
    if there != home and not (home.parent.name == SNAPSHOTS and there == home.parent.parent / "blobs"):
        raise BundleError(f"{path}: a link out of the bundle, to {there}. Replace it by the file itself.")
    return path


def is_download(folder: Path) -> bool:
    """Return whether a bundle was downloaded from the Hub, so that its paths are those of another machine.

    Args:
        folder: Folder of the bundle.

    Returns:
        True for the Hub's cache.
    """
    return folder.resolve().parent.name == SNAPSHOTS


def hash_files(folder: Path) -> dict[str, str]:
    """Hash every file of a bundle except its record, which has the hashes, and its editable card.

    Args:
        folder: Folder of the bundle.

    Returns:
        SHA-256 by name of the file.
    """
    files = [path for path in sorted(folder.iterdir()) if path.name not in (LAYOUT.settings, LAYOUT.card)]
    return {path.name: sha256_file(path) for path in files}


def verify_hashes(folder: Path, expected: dict[str, str], *, with_all: bool = False) -> None:
    """Check that files are present and unchanged.

    Args:
        folder: Folder of the bundle.
        expected: SHA-256 by name of the file.
        with_all: Whether to refuse files of a bundle that are not in `expected`.

    Raises:
        BundleError: If a file is missing, changed or unexpected.
    """
    known = {*vars(LAYOUT).values()} - {LAYOUT.settings, LAYOUT.card} - expected.keys() if with_all else set()
    if strange := [name for name in sorted(known) if (folder / name).exists()]:
        raise BundleError(f"{folder}: {strange[0]} does not belong to this bundle. Copy or download the bundle again.")
    for name, digest in expected.items():
        path = bundle_file(folder, name)
        if sha256_file(path) != digest:
            raise BundleError(f"{path}: not the file that was saved (sha256 differs). Copy or download it again.")
