"""llmrec.json, the record of a bundle: read as something that anybody may have written."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from llmrec.errors import BackboneError, BundleError
from llmrec.hub.layout import FORMAT, LAYOUT, bundle_file

MAX_RECORD_BYTES = 64 << 20  # bytes; reports of many models bring it to one or two millions
TEXTS = {"facts": ("source", "fingerprint"), "evaluation": ("main",)}  # what is asked of a bundle long after loading


@contextmanager
def translate_read_errors(folder: Path) -> Iterator[None]:
    """What is read within may be damaged or hostile, and then trips its readers in any way there is."""
    try:
        yield
    except (BundleError, BackboneError):
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise BundleError(f"{folder}: not readable as a bundle ({reason}); save or download it again") from error


def read_record(folder: Path) -> dict[str, Any]:
    """The bundle's llmrec.json.

    Raises:
        BundleError: none, one that is damaged or of another format, or without what every bundle says of itself.
    """
    path = folder / LAYOUT.settings
    if not path.is_file():
        raise BundleError(f"{folder} is not a bundle (no {LAYOUT.settings}); give the folder that finetune.py wrote")
    if bundle_file(folder, LAYOUT.settings).stat().st_size > MAX_RECORD_BYTES:
        raise BundleError(
            f"{path} is larger than {MAX_RECORD_BYTES >> 20} MiB, which no settings are; download it again"
        )
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # no JSON, no UTF-8, or brackets without end
        raise BundleError(f"{path} is damaged ({error}); copy or download the bundle again") from error
    found = record.get("format") if isinstance(record, dict) else None
    if found != FORMAT:
        raise BundleError(f"{path}: format {found}, this llmrec reads {FORMAT}; install a matching llmrec")
    for part, names in TEXTS.items():
        said = record.get(part)
        if not isinstance(said, dict) or not all(isinstance(said.get(name), str) for name in names):
            raise BundleError(f"{path}: {part} without {', '.join(names)}; copy or download the bundle again")
    return record
