"""What every history encoder is asked for, and what those share that have the backbone encode a history."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from llmrec.backbones.catalog_encoder import CatalogEncoder
from llmrec.backbones.text_backbone import TextBackbone
from llmrec.data.batches import HistoryBatch


class HistoryEncoder(nn.Module, ABC):
    """Item vectors of histories -> states, each of which knows the events before it and nothing else."""

    @abstractmethod
    def encode(self, vectors: Tensor, batch: HistoryBatch) -> Tensor:
        """(M, D) states that `batch` asks for. vectors: (B, T, D) of batch.history, which holds catalog rows."""

    def attach_encoder(self, reader: CatalogEncoder) -> None:
        """Have this backbone encode histories from now on, if a backbone does."""

    def extend(self, texts: Sequence[str]) -> None:
        """Know the texts of items that join the end of the catalog, if texts are read."""


class BackboneHistoryEncoder(HistoryEncoder):
    """The backbone that reads item texts encodes histories too.

    It is no submodule: its weights are trained, checkpointed and stored once, as the backbone's. But it follows the
    encoder to a device.
    """

    def __init__(self, reader: CatalogEncoder) -> None:
        super().__init__()
        self.attach_encoder(reader)

    def attach_encoder(self, reader: CatalogEncoder) -> None:
        self.reader = reader

    @property
    def backbone(self) -> TextBackbone:
        return self.reader.backbone

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> BackboneHistoryEncoder:
        self.backbone._apply(fn, recurse)  # type: ignore[no-untyped-call]
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self
