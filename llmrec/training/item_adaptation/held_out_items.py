"""Items that are held out of an adaptation, and how well their texts rank for histories that lead to them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from llmrec.config.adaptation import ItemAdaptConfig
from llmrec.data.histories import Histories
from llmrec.data.interactions import Interactions
from llmrec.data.splits import Split
from llmrec.errors import DataError
from llmrec.evaluation.metrics import ndcg_at
from llmrec.models.item_affinity import RECENCY
from llmrec.utils.arrays import Mask, Rows

LAST = 5  # events of a history that are compared


@dataclass(frozen=True)
class HeldOutItems:
    """Queries whose targets are held-out items, ranked among themselves."""

    held: Mask
    """True for held-out items, (N,)."""
    items: Rows
    """Catalog rows of the held-out items, (H,)."""
    history: Rows
    """Catalog rows of the last events of each query, newest first, -1 where there are fewer, (Q, LAST)."""
    target: Rows
    """Place of each target among the held-out items, (Q,)."""

    @classmethod
    def from_split(cls, split: Split, config: ItemAdaptConfig, seed: int) -> HeldOutItems:
        """Choose items and queries of the training part.

        Args:
            split: Split of the log.
            config: Share of items and number of queries.
            seed: Seed of the choice.

        Returns:
            The items, with their queries.

        Raises:
            DataError: If no history leads to a held-out item.
        """
        rng, train = np.random.default_rng((seed, 1)), split.train
        known = np.unique(train.item)
        items = np.sort(rng.permutation(known)[: max(round(len(known) * config.held_out_fraction), 2)])
        held = np.zeros(split.n_items, dtype=np.bool_)
        held[items] = True
        history, target = _collect_queries(train, held, split.n_users)
        if not len(target):
            raise DataError(
                "adapt_items", ["no history leads to a held-out item. Give a longer log, or leave adapt_items out."]
            )
        some = np.sort(rng.permutation(len(target))[: config.max_held_out_queries])
        return cls(held, items, history[some], np.searchsorted(items, target[some]))

    def measure(self, encode: Callable[[Rows], Tensor]) -> float:
        """Rank the targets by their text among the held-out items.

        Args:
            encode: Function that returns the text vectors, (R, D_text), of catalog rows.

        Returns:
            NDCG@10.
        """
        rows = np.unique(np.concatenate([self.items, self.history[self.history >= 0]]))
        vectors = encode(rows)
        vectors = functional.normalize(vectors - vectors.mean(0), dim=-1)
        place = torch.from_numpy(np.searchsorted(rows, np.maximum(self.history, 0)).clip(max=len(rows) - 1))
        weight = RECENCY ** torch.arange(LAST) * torch.from_numpy(self.history >= 0)  # (Q, LAST)
        states = (vectors[place] * weight[..., None].to(vectors)).sum(1)
        scores = states @ vectors[torch.from_numpy(np.searchsorted(rows, self.items))].T  # (Q, H)
        of_target = scores.gather(1, torch.from_numpy(self.target)[:, None])
        rank = 1 + (scores > of_target).sum(1) + ((scores == of_target).sum(1) - 1) / 2
        return float(ndcg_at(rank.double().numpy(), 10).mean())


def _collect_queries(train: Interactions, held: Mask, n_users: int) -> tuple[Rows, Rows]:
    """Return the newest other events, (Q, LAST), before each event of a held-out item, and its item, (Q,)."""
    histories = Histories.from_interactions(train, n_users)
    item, user = histories.item, histories.user
    kept = np.flatnonzero(~held[item])  # positions of events that a history may have
    at = np.flatnonzero(held[item])
    before = np.searchsorted(kept, at)  # number of kept events before each
    place = before[:, None] - 1 - np.arange(LAST)  # (Q, LAST), newest first
    position = kept[place.clip(min=0)] if len(kept) else np.zeros_like(place)
    own = (place >= 0) & (user[position] == user[at][:, None])
    history = np.where(own, item[position], -1)
    has_history = own[:, 0]
    return history[has_history], item[at][has_history]
