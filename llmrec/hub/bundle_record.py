"""Record of a bundle, llmrec.json, read as a file that an attacker may have written."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from llmrec.errors import BackboneError, BundleError
from llmrec.hub.layout import FORMAT, LAYOUT, bundle_file

MAX_RECORD_BYTES = 64 << 20  # bytes; reports of many models take one or two million
TEXTS = {"facts": ("source", "fingerprint"), "evaluation": ("main",)}  # needed long after loading


@contextmanager
def translate_read_errors(folder: Path) -> Iterator[None]:
    """Raise BundleError for any error of reading damaged or hostile files inside.

    Args:
        folder: Folder of the bundle.

    Raises:
        BundleError: If reading fails.
    """
    try:
        yield
    except (BundleError, BackboneError):
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise BundleError(f"{folder}: not readable as a bundle ({reason}). Save or download it again.") from error


def read_record(folder: Path) -> dict[str, Any]:
    """Read the llmrec.json of a bundle.

    Args:
        folder: Folder of the bundle.

    Returns:
        The record.

    Raises:
        BundleError: If it is missing, damaged, of another format or incomplete.
    """
    path = folder / LAYOUT.settings
    if not path.is_file():
        raise BundleError(f"{folder}: not a bundle (no {LAYOUT.settings}). Give the folder that finetune.py wrote.")
    if bundle_file(folder, LAYOUT.settings).stat().st_size > MAX_RECORD_BYTES:
        raise BundleError(f"{path}: larger than {MAX_RECORD_BYTES >> 20} MiB. Download the bundle again.")
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # not JSON, not UTF-8, or nested too deep
        raise BundleError(f"{path}: damaged ({error}). Copy or download the bundle again.") from error
    found = record.get("format") if isinstance(record, dict) else None
    if found == 1:
        raise BundleError(f"{path}: format 1 of an earlier llmrec, whose settings had other names. Train it again.")
    if found != FORMAT:
        raise BundleError(f"{path}: format {found}, but this llmrec reads {FORMAT}. Install a matching llmrec.")
    for part, names in TEXTS.items():
        said = record.get(part)
        if not isinstance(said, dict) or not all(isinstance(said.get(name), str) for name in names):
            raise BundleError(f"{path}: {part} without {', '.join(names)}. Copy or download the bundle again.")
    return record
