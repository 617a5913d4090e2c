"""Losses of a training part: what the backbone learns from, and what is kept from it."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor
from torch.nn import functional

from llmrec.config.adaptation import ItemAdaptConfig
from llmrec.data.histories import Histories
from llmrec.data.item_pairs import build_item_pairs
from llmrec.data.splits import Split
from llmrec.errors import DataError
from llmrec.training.item_adaptation.item_losses import AlignLoss, ContrastLoss, ItemLoss
from llmrec.utils.arrays import Mask, Rows

HARD = 8  # similar items of each item
SIMILAR = 32  # the nearest among which they are looked for
AT_ONCE = 1024  # items whose neighbors are computed together


def make_item_loss(
    split: Split,
    config: ItemAdaptConfig,
    *,
    held: Mask,
    targets: Tensor | None,
    text: Tensor,
) -> ItemLoss:
    """Make a loss that holds nothing about held-out items.

    Args:
        split: Split of the log.
        config: Method and sizes of steps.
        held: True for held-out items, (N,).
        targets: Fitted vectors of the catalog, (N, D), for align; None for contrast.
        text: Text vectors of the catalog, (N, D_text).

    Returns:
        The loss.

    Raises:
        DataError: If there are too few items or pairs to learn from.
    """
    counts = np.bincount(split.train.item, minlength=split.n_items)
    if config.method == "contrast":
        return _make_contrast(split, config, held=held, text=text)
    if targets is None:
        raise ValueError("align learns fitted vectors, and there are none")
    items = np.flatnonzero((counts >= config.min_events) & ~held)
    if len(items) < 2:
        raise DataError(
            "adapt_items", [f"{len(items)} item(s) with {config.min_events} events. Lower adapt_items.min_events."]
        )
    return AlignLoss(targets, text, counts, items, size=config.items_per_step)


def _make_contrast(split: Split, config: ItemAdaptConfig, *, held: Mask, text: Tensor) -> ItemLoss:
    histories = Histories.from_interactions(split.train, split.n_users)
    found = build_item_pairs(split.train, split.n_users, config.window)
    kept = ~held[found.item].any(1)
    pairs, user = found.item[kept], found.user[kept]
    if not len(pairs):
        raise DataError("adapt_items", ["no two items of one user to learn from. Give adapt_items.method align."])
    known = np.unique(histories.item[~held[histories.item]])
    return ContrastLoss(
        pairs,
        user=user,
        seen=np.unique(histories.user * split.n_items + histories.item),
        text_class=np.unique(text.numpy().round(4), axis=0, return_inverse=True)[1].ravel(),
        hard=find_hard_negatives(text, known, histories, n_users=split.n_users),
        known=known,
        n_pairs=config.items_per_step // 4,
        n_negatives=config.n_negatives,
        n_hard=config.n_hard_negatives,
    )


def find_hard_negatives(text: Tensor, known: Rows, histories: Histories, *, n_users: int) -> Rows:
    """Find items with similar texts that no user has together.

    Args:
        text: Text vectors of the catalog, (N, D_text).
        known: Catalog rows among which they are looked for, (K,).
        histories: Training events.
        n_users: Number of users.

    Returns:
        Catalog rows, (N, HARD); -1 where there are fewer, and for items that are not known.
    """
    n_items = len(text)
    has = sp.csr_matrix((np.ones(len(histories.item)), (histories.item, histories.user)), (n_items, n_users))
    own = torch.from_numpy(known)
    vectors = functional.normalize(text[own] - text[own].mean(0), dim=-1)
    hard = np.full((n_items, HARD), -1, dtype=np.int64)
    for start in range(0, len(known), AT_ONCE):
        rows = known[start : start + AT_ONCE]
        cosines = vectors[start : start + AT_ONCE] @ vectors.T
        cosines[torch.arange(len(rows)), torch.arange(start, start + len(rows))] = -torch.inf
        near = known[cosines.topk(min(SIMILAR, len(known) - 1), dim=1).indices.numpy()]  # (R, SIMILAR)
        shared = has[np.repeat(rows, near.shape[1])].multiply(has[near.ravel()]).sum(1)
        together = np.asarray(shared).reshape(near.shape)
        order = np.argsort(together > 0, axis=1, kind="stable")[:, :HARD]
        found = np.take_along_axis(np.where(together > 0, -1, near), order, axis=1)
        hard[rows, : found.shape[1]] = found
    return hard
