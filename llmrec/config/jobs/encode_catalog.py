"""Settings of recipes/encode_catalog.py."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from llmrec.config.backbone import BackboneConfig
from llmrec.config.data import DataConfig
from llmrec.config.validation import COUNT_FROM_1
from llmrec.errors import ConfigError


@dataclass(frozen=True)
class EncodeConfig:
    """Encode every text of a catalog into the cache that training uses."""

    data: DataConfig
    """Items and the template of their text, as in the run that is to find the vectors."""
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    """Backbone, as in the run that is to find the vectors."""
    texts_per_shard: Annotated[int | None, COUNT_FROM_1] = None
    """Texts that a process encodes before it writes them; null: 4,096, or 65,536 on a GPU."""

    def __post_init__(self) -> None:
        if self.backbone.strategy == "none":
            raise ConfigError("backbone.strategy none: there is nothing to read with; give frozen")
