"""Base classes of history encoders."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from llmrec.backbones.catalog_encoder import CatalogEncoder
from llmrec.backbones.text_backbone import TextBackbone
from llmrec.data.batches import HistoryBatch


class HistoryEncoder(nn.Module, ABC):
    """Encoder of histories as states, each of which depends only on the events before it."""

    @abstractmethod
    def encode(self, vectors: Tensor, batch: HistoryBatch) -> Tensor:
        """Encode the states of a batch's targets.

        Args:
            vectors: Item vectors of the histories, (B, T, D).
            batch: Histories, as catalog rows, and targets.

        Returns:
            States, (M, D).
        """

    def attach_encoder(self, reader: CatalogEncoder) -> None:
        """Set the backbone that encodes histories, if this encoder uses one.

        Args:
            reader: Backbone and catalog.
        """

    def extend(self, texts: Sequence[str]) -> None:
        """Append items to the catalog, if this encoder uses texts.

        Args:
            texts: Texts of the new items.
        """


class BackboneHistoryEncoder(HistoryEncoder):
    """Base class of encoders in which the backbone of the item texts encodes histories too.

    The backbone is not a submodule: its weights are trained, checkpointed and stored once, as those of the backbone. It
    does move to a device with this encoder.

    Args:
        reader: Backbone and catalog.
    """

    def __init__(self, reader: CatalogEncoder) -> None:
        super().__init__()
        self.attach_encoder(reader)

    def attach_encoder(self, reader: CatalogEncoder) -> None:
        """Set the backbone that encodes histories.

        Args:
            reader: Backbone and catalog.
        """
        self.reader = reader

    @property
    def backbone(self) -> TextBackbone:
        """Backbone that encodes histories."""
        return self.reader.backbone

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> BackboneHistoryEncoder:  # noqa: FBT001, FBT002 as in torch
        self.backbone._apply(fn, recurse)  # type: ignore[no-untyped-call]
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self
