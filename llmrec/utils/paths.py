"""Folders for files that are kept between runs."""

from __future__ import annotations

import os
from pathlib import Path


def get_cache_dir() -> Path:
    """Return `LLMREC_CACHE`, or `~/.cache/llmrec` if it is not set."""
    return Path(os.environ.get("LLMREC_CACHE", "~/.cache/llmrec")).expanduser()
