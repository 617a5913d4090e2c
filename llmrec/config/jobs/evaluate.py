"""Settings of recipes/evaluate.py."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from llmrec.config.data import DataConfig
from llmrec.config.split import SplitName


@dataclass(frozen=True)
class EvaluateConfig:
    """Evaluate a bundle on the test part of a log."""

    bundle: Path
    """Folder of a saved recommender."""
    data: DataConfig | None = None
    """Log; settings that are not given are the bundle's."""
    split: SplitName | None = None
    """Split to test on; null: the one that the bundle was trained on."""
    max_queries: int | None = None
    """Test queries; null: as in training."""
    backbone: str | None = None
    """Local copy of the base model; null: as the bundle says."""
    output: Path = Path("runs/evaluate")
    """Folder of the run."""
