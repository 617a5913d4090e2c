"""Small files of a checkpoint, in a local folder or from a repository of the Hub and its local cache."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmrec.errors import BackboneError

# What is read beyond transformers' own files: settings, and the weights of sentence-transformers' further modules.
SMALL_FILES = ["*.json", "[0-9]*_*/*.json", "[0-9]*_*/model.safetensors", "[0-9]*_*/pytorch_model.bin"]


@dataclass(frozen=True)
class CheckpointFiles:
    """Files of a checkpoint."""

    folder: Path
    """Local folder; for the Hub that of the snapshot, with settings and small modules only."""
    names: frozenset[str]
    """Paths of all files in the checkpoint, relative to it."""
    complete: bool = True
    """False if the Hub could not be reached, so that there may be files that its cache lacks."""

    def read_json(self, name: str) -> Any:
        """Read a file of settings.

        Args:
            name: Path in the checkpoint.

        Returns:
            Content, or None if there is no such file.

        Raises:
            BackboneError: If it is not JSON.
        """
        path = self.folder / name
        if not path.is_file():
            return None
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise BackboneError(f"{path}: not valid JSON ({error}). Copy the file again.") from error

    def read_settings(self, name: str) -> Mapping[str, Any]:
        """Read a file of settings that holds an object.

        Args:
            name: Path in the checkpoint.

        Returns:
            Settings; empty if there is no such file.

        Raises:
            BackboneError: If it is not JSON, or no object.
        """
        found = self.read_json(name)
        if found is not None and not isinstance(found, dict):
            raise BackboneError(f"{self.folder / name}: holds no JSON object. Copy the file again.")
        return found or {}


def open_checkpoint(path: str, revision: str | None) -> CheckpointFiles:
    """Open the files of a checkpoint; small ones of a Hub repository are downloaded, or read from the cache.

    Args:
        path: Local folder or Hub id.
        revision: Branch, tag or commit on the Hub; None for main.

    Returns:
        The files.

    Raises:
        OSError: If the Hub cannot be reached and its cache does not hold the repository.
    """
    local = Path(path)
    if local.is_dir():
        return CheckpointFiles(local, _list_names(local))
    from huggingface_hub import snapshot_download

    names = _list_repository(path, revision)
    folder = Path(snapshot_download(path, revision=revision, allow_patterns=SMALL_FILES))
    return CheckpointFiles(folder, names or _list_names(folder), names is not None)


def _list_repository(repo_id: str, revision: str | None) -> frozenset[str] | None:
    """List the files of a repository; None if the Hub does not answer."""
    from huggingface_hub import HfApi

    try:
        return frozenset(HfApi().list_repo_files(repo_id, revision=revision))
    except Exception:  # any kind, from HTTP to offline mode: the download says why unless the cache has the files
        return None


def _list_names(folder: Path) -> frozenset[str]:
    """List the files of a folder and of the folders in it."""
    found = [*folder.glob("*"), *folder.glob("*/*")]
    return frozenset(path.relative_to(folder).as_posix() for path in found if path.is_file())
