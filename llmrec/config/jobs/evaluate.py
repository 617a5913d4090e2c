"""The configuration of recipes/evaluate.py."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from llmrec.config.data import DataConfig
from llmrec.config.split import SplitName


@dataclass(frozen=True)
class EvaluateConfig:
    """recipes/evaluate.py: a bundle on the test part of a log.

    bundle: the folder of a saved recommender, which also says how the test is cut and ranked.
    data: the log; settings that are not given are the bundle's. Its items must be those of the bundle.
    split: default: the one the bundle was trained on.
    max_queries: a seeded sample where the test part has more; default: as in training.
    backbone: a local copy of the base model, for bundles whose backbone encodes histories.
    """

    bundle: Path
    data: DataConfig | None = None
    split: SplitName | None = None
    max_queries: int | None = None
    backbone: str | None = None
    output: Path = Path("runs/evaluate")
