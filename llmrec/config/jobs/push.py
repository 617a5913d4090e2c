"""Settings of recipes/push.py."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class PushConfig:
    """Push a bundle to a repository on the Hugging Face hub."""

    bundle: Path
    """Folder of a saved recommender."""
    repo_id: str
    """OWNER/NAME, created if it is missing."""
    private: bool = True
    """Create a missing repository as private."""
    revision: str | None = None
    """Branch, created if it is missing; null: main."""
    base_model_id: str | None = None
    """Public name of the base model, if it was trained from a folder."""
    include_counts: bool = True
    """Include the counts of the drift head over all users."""
    backbone: str | None = None
    """Local copy of the base model; null: as the bundle says."""
