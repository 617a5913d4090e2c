"""The configuration of recipes/encode_catalog.py."""

from __future__ import annotations

from dataclasses import dataclass, field

from llmrec.config.backbone import BackboneConfig
from llmrec.config.data import DataConfig
from llmrec.errors import ConfigError


@dataclass(frozen=True)
class EncodeConfig:
    """recipes/encode_catalog.py: every text of a catalog read once, into the cache that fine-tuning looks in.

    data: where the items are and what their text is made of; no log is needed. Give the `data` and `backbone` of the
        run that is to find the vectors: another template, prompt, length or pooling makes another text or vector.
    backbone: read as it is, whatever its strategy will be.
    texts_per_shard: that a process reads before it writes them, and so what a kill loses; null: 4,096, 65,536 on a GPU.
    """

    data: DataConfig
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    texts_per_shard: int | None = None

    def __post_init__(self) -> None:
        if self.backbone.strategy == "none":
            raise ConfigError("backbone.strategy none: there is nothing to read with; give frozen")
        if self.texts_per_shard is not None and self.texts_per_shard < 1:
            raise ConfigError(f"texts_per_shard={self.texts_per_shard}: give at least 1")
