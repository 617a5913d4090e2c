"""The configuration of recipes/push.py."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class PushConfig:
    """From a bundle on disk to a repository on the hub."""

    bundle: Path
    """Folder of a saved recommender."""
    repo_id: str
    """OWNER/NAME, made if it is missing."""
    private: bool = True
    """Visibility of a repository that is made."""
    revision: str | None = None
    """Branch, made if it is missing; null: main."""
    base_model_id: str | None = None
    """Public name of the base model, if it was trained from a folder."""
    include_counts: bool = True
    """Include the drift head's sums of everyone's events."""
    backbone: str | None = None
    """Local copy of the base model; null: as the bundle says."""
