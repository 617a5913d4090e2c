"""Settings of recipes/recommend.py."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from llmrec.config.data import DataConfig
from llmrec.config.validation import COUNT_FROM_1, Bounds


@dataclass(frozen=True)
class RecommendConfig:
    """Recommend the best items to every user of a log."""

    bundle: Path
    """Folder of a saved recommender."""
    data: DataConfig | None = None
    """Log of the users; settings that are not given are the bundle's."""
    k: Annotated[int, Bounds(1, 2**20)] = 10
    """Items for each user."""
    at: str | None = None
    """Query time in ISO 8601; events at or after it are left out. null: after the log's newest event."""
    include_seen: bool | None = None
    """Also recommend items of the history; null: as the evaluation of the bundle ranked them."""
    filters: tuple[str, ...] = ()
    """Conditions on items, such as category=Soap or genres~drama."""
    users_per_part: Annotated[int, COUNT_FROM_1] = 10_000
    """Users per file, and the most that a stopped run loses."""
    batch_size: Annotated[int, COUNT_FROM_1] = 256
    """Users whose scores are held in memory together."""
    backbone: str | None = None
    """Local copy of the base model; null: as the bundle says."""
    output: Path = Path("runs/recommend")
    """Folder of the parquet files."""
