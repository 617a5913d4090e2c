"""Where what is worth keeping between runs lies."""

from __future__ import annotations

import os
from pathlib import Path


def get_cache_dir() -> Path:
    """`LLMREC_CACHE`, or `~/.cache/llmrec`."""
    return Path(os.environ.get("LLMREC_CACHE", "~/.cache/llmrec")).expanduser()
