"""The configuration of recipes/recommend.py."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from llmrec.config.data import DataConfig
from llmrec.errors import ConfigError


@dataclass(frozen=True)
class RecommendConfig:
    """recipes/recommend.py: the best items for every user of a log.

    bundle: the folder of a saved recommender.
    data: the log whose users are asked about; settings that are not given are the bundle's. Its items must be the
        bundle's, or added to it.
    k: items for each user. include_seen: those of the history too. filters: conditions as in `llmrec recommend`.
    at: the query time, ISO; events of anybody at or after it are left out. Default: just after the log's newest event.
    users_per_part: of a file; what a kill loses at most. batch_size: whose scores are held together.
    backbone: a local copy of the base model, for bundles whose backbone encodes histories.
    """

    bundle: Path
    data: DataConfig | None = None
    k: int = 10
    at: str | None = None
    include_seen: bool = False
    filters: tuple[str, ...] = ()
    users_per_part: int = 10_000
    batch_size: int = 256
    backbone: str | None = None
    output: Path = Path("runs/recommend")

    def __post_init__(self) -> None:
        for name in ("k", "users_per_part", "batch_size"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}={getattr(self, name)}: give at least 1")
