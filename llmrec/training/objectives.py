"""Training objectives: the model and its trainable backbone as one module.

They are one module because DDP synchronizes what is called through it, and must not contain what is never called.
"""

from __future__ import annotations

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor, nn

from llmrec.backbones.catalog_encoder import CatalogEncoder
from llmrec.backbones.text_backbone import TextBackbone
from llmrec.data.batches import HistoryBatch
from llmrec.models.losses import full_softmax_loss, sampled_softmax_loss
from llmrec.models.recommender_model import RecommenderModel
from llmrec.training.distributed.collectives import all_gather_with_grad, encode_catalog, take_own_share
from llmrec.utils.precision import upcast_to_fp32


class Objective(nn.Module):
    """Base of objectives: the loss of a batch, summed over its targets."""

    model: RecommenderModel
    """The recommender."""
    reader: CatalogEncoder | None
    """Encoder of the catalog, if its backbone trains; each process encodes a share."""
    backbone: TextBackbone | None
    """The backbone of the reader, a part of this module; None if it does not train."""

    @torch.no_grad()
    def refresh_text_table(self, accelerator: Accelerator) -> None:
        """Encode the whole catalog with the current backbone, if it trains.

        Args:
            accelerator: Processes that share the work.

        Raises:
            ValueError: If the model has no text.
        """
        if self.reader is None:
            return
        if self.model.items.text is None:
            raise ValueError("a model without text has no table to renew")
        self.model.items.text.copy_(encode_catalog(self.reader, accelerator))


class RecommendationObjective(Objective):
    """Sum over the targets of a batch of the cross-entropy over the items known in training.

    Items without a training event do not exist yet for the model: they are negatives of no target.
    """

    known: Tensor
    """Catalog rows of the known items, (n_known,)."""
    place: Tensor
    """Position of each catalog row among the known items, (N,)."""

    def __init__(self, model: RecommenderModel, reader: CatalogEncoder | None = None) -> None:
        super().__init__()
        self.model = model
        self.reader = reader
        self.backbone = reader.backbone if reader else None
        known = model.items.known
        self.n_known = int(known.sum())
        self.register_buffer("known", torch.nonzero(known).flatten(), persistent=False)
        self.register_buffer("place", known.cumsum(0) - 1, persistent=False)

    def forward(self, batch: HistoryBatch, live_rows: Tensor | None, negatives: Tensor | None) -> Tensor:
        """Compute the loss of a batch.

        Args:
            batch: Histories and targets.
            live_rows: Catalog rows to encode with gradients, (R,); None for none.
            negatives: Catalog rows of the negatives, (S,); None for the softmax over all known items.

        Returns:
            The loss, a scalar summed over targets.
        """
        live_text = self._read(live_rows) if live_rows is not None else None
        if negatives is None:
            states, items = self.model(batch, None, live_rows, live_text)
            with torch.autocast(states.device.type, enabled=False):  # sums over a whole catalog want fp32
                if self.n_known < len(self.place):
                    items = items.index_select(0, self.known)
                return full_softmax_loss(upcast_to_fp32(states), upcast_to_fp32(items), self.place[batch.target])
        rows = _collect_distinct_rows(batch, negatives, live_rows)
        target, drawn = torch.searchsorted(rows, batch.target), torch.searchsorted(rows, negatives)
        history = torch.searchsorted(rows, batch.history).clamp(max=len(rows) - 1)  # padding may lie beyond
        states, items = self.model(batch._replace(history=history), rows, live_rows, live_text)
        with torch.autocast(states.device.type, enabled=False):
            states, items = upcast_to_fp32(states), upcast_to_fp32(items)
            return sampled_softmax_loss(
                states, items[target], items[drawn], batch.target, negative_rows=negatives, n_items=self.n_known
            )

    def _read(self, live_rows: Tensor) -> Tensor:
        if self.reader is None:
            raise ValueError("live rows need a reader")
        return encode_trainable_items(self.model, self.reader, live_rows)


def encode_trainable_items(model: RecommenderModel, reader: CatalogEncoder, live_rows: Tensor) -> Tensor:
    """Encode items with gradients, and store their new text vectors in the table.

    Each process encodes a share and receives all of them; gradients return to the process that encoded a row.

    Args:
        model: Model with the table of text vectors.
        reader: Encoder of the catalog.
        live_rows: Catalog rows to encode, (R,).

    Returns:
        Text vectors, (R, D_text).

    Raises:
        ValueError: If the model has no text.
    """
    if model.items.text is None:
        raise ValueError("live rows need a model with text")
    vectors = all_gather_with_grad(reader.encode_with_grad(take_own_share(live_rows.cpu().numpy())), len(live_rows))
    model.items.text[live_rows] = vectors.detach().to(model.items.text)
    return vectors


def _collect_distinct_rows(batch: HistoryBatch, negatives: Tensor, live_rows: Tensor | None) -> Tensor:
    """Return the increasing catalog rows, (C,), of all items in a step with sampled negatives."""
    parts = [batch.history[batch.history_mask], batch.target, negatives]
    rows: Tensor = torch.unique(torch.cat(parts if live_rows is None else [*parts, live_rows]))
    return rows


def choose_trainable_rows(
    batch: HistoryBatch, known: NDArray[np.int64], n_live: int, rng: np.random.Generator
) -> Tensor:
    """Choose the items that a step encodes: targets first, then items of histories, then random ones.

    So both positives and negatives give gradients to the backbone.

    Args:
        batch: Histories and targets.
        known: Catalog rows of the known items.
        n_live: Items to encode at most.
        rng: Source of random numbers, the same in all processes.

    Returns:
        Catalog rows, (R,).
    """
    targets = np.unique(batch.target.numpy())
    if len(targets) >= n_live:
        return torch.from_numpy(rng.choice(targets, n_live, replace=False))
    held = np.setdiff1d(batch.history[batch.history_mask].numpy(), targets)
    n_held = min(len(held), (n_live - len(targets)) // 2)
    chosen = np.concatenate([targets, rng.choice(held, n_held, replace=False)])
    others = np.setdiff1d(rng.choice(known, n_live), chosen)[: n_live - len(chosen)]
    return torch.from_numpy(np.concatenate([chosen, others]))
