"""The configuration of recipes/push.py."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class PushConfig:
    """recipes/push.py: from a bundle on disk to a repository on the hub.

    bundle: the folder of a saved recommender. repo_id: OWNER/NAME, made if it is not there, then `private` or not.
    revision: a branch, made if there is none; null: main.
    base_model_id: the public name of the base model, where it was trained from a folder.
    include_counts: with what a drift head has counted of everybody's events.
    backbone: a local copy of the base model, for bundles whose backbone encodes histories.
    """

    bundle: Path
    repo_id: str
    private: bool = True
    revision: str | None = None
    base_model_id: str | None = None
    include_counts: bool = True
    backbone: str | None = None
