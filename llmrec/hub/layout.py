"""What lies where in a bundle, and how a folder is replaced whole."""

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

FORMAT = 1
SNAPSHOTS = "snapshots"  # in the hub's cache: a folder for each revision, of links into `blobs` beside them


@dataclass(frozen=True)
class BundleLayout:
    """File names in a bundle. `adapter_config` and `adapter` are PEFT's own."""

    settings: str = "llmrec.json"
    heads: str = "heads.safetensors"
    items: str = "items.safetensors"
    drift: str = "drift.safetensors"
    world: str = "world.safetensors"
    catalog: str = "catalog.parquet"
    backbone: str = "backbone.safetensors"
    adapter: str = "adapter_model.safetensors"
    adapter_config: str = "adapter_config.json"
    card: str = "README.md"


LAYOUT = BundleLayout()
TUNED: dict[Strategy, tuple[str, ...]] = {  # where a strategy's trained backbone weights are
    "none": (),
    "frozen": (),
    "last_k": (LAYOUT.backbone,),
    "lora": (LAYOUT.adapter_config, LAYOUT.adapter),
    "full": (LAYOUT.backbone,),
}


def check_destination(folder: Path, marker: str = LAYOUT.settings, kind: str = "a bundle") -> None:
    """Refuse, before any work is done, to replace what is not a bundle, or not a `kind`, which has a file `marker`.

    Raises:
        BundleError: `folder` is a file, or a folder with other things in it.
    """
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir()) and not (folder / marker).is_file()):
        raise BundleError(f"{folder} exists and is not {kind}; give another place, or move it away")


@contextmanager
def atomic_folder(folder: Path, marker: str = LAYOUT.settings, kind: str = "a bundle") -> Iterator[Path]:
    """A new folder to write to, which takes the place of `folder` when all went well and is removed otherwise."""
    check_destination(folder, marker, kind)
    folder = folder.resolve()  # "." has no name to put another beside, and a link stays a link
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
            old.replace(folder)  # the swap itself went wrong, half way
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def recover_folder(folder: Path) -> None:
    """Put right what a save that was killed left beside `folder`: the old one goes back if no new one came."""
    for left in folder.parent.glob(f".{glob.escape(folder.name)}.*"):
        *_, pid, kind = left.name.split(".")
        if not pid.isdigit() or kind not in ("old", "partial") or _process_exists(int(pid)):
            continue
        if kind == "old" and not folder.exists():
            left.replace(folder)
        else:
            shutil.rmtree(left, ignore_errors=True)


def _process_exists(pid: int) -> bool:
    """Whether another process that may be saving has this id."""
    if os.name != "posix":  # elsewhere the question itself would end it
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return pid != os.getpid()


def bundle_file(folder: Path, name: str) -> Path:
    """The place of a bundle's file.

    Raises:
        BundleError: it is not there, or is elsewhere: another folder's, by its name or by a link. The hub's cache alone
            keeps files beside the folder and links to them.
    """
    path, home = folder / name, folder.resolve()
    if Path(name).name != name or not path.is_file():
        raise BundleError(f"{folder}: {name} is missing; copy or download the bundle again")
    there = path.resolve().parent
    if there != home and not (home.parent.name == SNAPSHOTS and there == home.parent.parent / "blobs"):
        raise BundleError(f"{path} is a link that leads out of the bundle, to {there}; put the file itself there")
    return path


def is_download(folder: Path) -> bool:
    """Whether a bundle came from the hub, and so from somebody who does not know this machine."""
    return folder.resolve().parent.name == SNAPSHOTS


def hash_files(folder: Path) -> dict[str, str]:
    """sha256 of every file in a bundle but its settings, which hold these, and its card, which people may edit."""
    files = [path for path in sorted(folder.iterdir()) if path.name not in (LAYOUT.settings, LAYOUT.card)]
    return {path.name: sha256_file(path) for path in files}


def verify_hashes(folder: Path, expected: dict[str, str], with_all: bool = False) -> None:
    """Raises BundleError for files that are missing or are not what was saved.

    with_all: also for a file of a bundle that is there and is not among `expected`.
    """
    known = {*vars(LAYOUT).values()} - {LAYOUT.settings, LAYOUT.card} - expected.keys() if with_all else set()
    if strange := [name for name in sorted(known) if (folder / name).exists()]:
        raise BundleError(f"{folder}: {strange[0]} is not of this bundle; copy or download the bundle again")
    for name, digest in expected.items():
        path = bundle_file(folder, name)
        if sha256_file(path) != digest:
            raise BundleError(f"{path} is not the file that was saved (sha256 differs); copy or download it again")
