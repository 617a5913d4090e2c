"""What items of histories gain in a recommender that keeps them, with the older items of live users."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from llmrec.data.ids import is_id
from llmrec.data.repeats import SeenPairs
from llmrec.inference.live.users import LiveUsers
from llmrec.inference.queries import Item, QueryBatch, find_item_rows, render_item_text
from llmrec.inference.served_catalog import ServedCatalog
from llmrec.search.row_pairs import RowPairs
from llmrec.search.topk import TopK


@dataclass(frozen=True)
class SeenGains:
    """Gains of the items of B histories."""

    catalog: ServedCatalog
    """Items of the bundle."""
    batch: QueryBatch
    """The histories."""
    pairs: SeenPairs
    """Pairs of a history and an item, items outside the catalog included, (P,)."""
    gain: Tensor
    """What the score of each pair gains, (P,)."""

    @classmethod
    def from_batch(cls, catalog: ServedCatalog, live: LiveUsers, batch: QueryBatch) -> SeenGains | None:
        """Compute the gains of histories.

        Args:
            catalog: Items of the bundle.
            live: Live users, whose older items count too.
            batch: B histories.

        Returns:
            The gains, or None if the model does not weigh items of the history.
        """
        if not catalog.bundle.model.repeats:
            return None
        older = live.state.seen.list_pairs(batch.users) if (batch.users >= 0).any() else None
        found = catalog.scorer.find_gains(batch.queries, older=older)
        return None if found is None else cls(catalog, batch, *found)

    def of_items(self, history: int, items: Sequence[Item]) -> Tensor:
        """Return what the scores of items gain for one history.

        Args:
            history: Position of the history in the batch.
            items: C ids, or fields of items outside the catalog.

        Returns:
            Gains, (C,), 0 for items that are not in the history.
        """
        own = self.pairs.query == history
        gains = dict(zip(self.pairs.item[own].tolist(), self.gain[torch.from_numpy(own)].tolist(), strict=True))
        return torch.tensor([gains.get(self._find_row(item), 0.0) for item in items])

    def list_catalog_pairs(self) -> tuple[RowPairs, Tensor]:
        """List the pairs whose item is in the catalog.

        Returns:
            The pairs and their gains.
        """
        listed = torch.from_numpy(self.pairs.item < len(self.catalog))
        pairs = RowPairs(torch.from_numpy(self.pairs.query)[listed], torch.from_numpy(self.pairs.item)[listed])
        return pairs, self.gain[listed]

    def _find_row(self, item: Item) -> int:
        """Return the row of an item as histories refer to it; -1 for one outside catalog and histories."""
        if is_id(item):
            return int(find_item_rows(self.catalog.items, [item])[0])
        text = render_item_text(self.catalog.items, item)
        return len(self.catalog) + self.batch.texts.index(text) if text in self.batch.texts else -1


def insert_pairs(found: TopK, pairs: RowPairs, score: Tensor) -> TopK:
    """Insert scored items into ranked lists that were searched without them.

    Args:
        found: Best items, (B, k) each.
        pairs: P distinct pairs of a list and an item that it does not have.
        score: Scores of the pairs, (P,); -inf excludes an item.

    Returns:
        The k best items of both, of two with the same score the one with the lower row first.
    """
    n_lists, k = found.score.shape
    query = torch.cat([torch.arange(n_lists).repeat_interleave(k), pairs.query.cpu()])
    item = torch.cat([found.item.cpu().flatten(), pairs.item.cpu()])
    value = torch.cat([found.score.cpu().flatten(), score.cpu().float()])
    item = item.masked_fill(value == -torch.inf, -1)
    order = torch.from_numpy(np.lexsort((item.numpy(), -value.numpy(), query.numpy())))
    first = torch.searchsorted(query[order].contiguous(), torch.arange(n_lists))
    rows: Tensor = order[first[:, None] + torch.arange(k)]  # each list has at least its own k
    return TopK(value[rows].to(found.score.device), item[rows].to(found.item.device))
