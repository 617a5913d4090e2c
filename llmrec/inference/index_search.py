"""Search for the items with the best scores, by a scan of all items or by an index.

The part of an item's score that is the same for any history is one more dimension of its vector, and the query's is 1.
An index returns more items than needed, as many again as a history may hold; these are scored by the exact vectors. So
it decides which items are found, but not their scores.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from llmrec.errors import ConfigError
from llmrec.inference.seen_gains import SeenGains, insert_pairs
from llmrec.inference.served_catalog import ServedCatalog
from llmrec.search.index import ItemIndex
from llmrec.search.open_index import open_index
from llmrec.search.row_pairs import RowPairs
from llmrec.search.topk import TopK, top_k

HEAD = 2  # times k items are requested in addition to the seen ones: scores of bytes put some in the wrong order


class IndexSearch:
    """The index of a recommender; it scans the catalog until `use` names another.

    Attributes:
        catalog: The items to search.
        index: The index in use, None for a scan.

    Example:
        recommender.index.use("hnsw")
    """

    def __init__(self, catalog: ServedCatalog) -> None:
        self.catalog = catalog
        self.index: ItemIndex | None = None
        self.n_held = 0

    def __repr__(self) -> str:
        return f"IndexSearch({'exact scan' if self.index is None else type(self.index).__name__})"

    def use(self, index: ItemIndex | str | None) -> None:
        """Look items up in an index, for catalogs that take too long to scan; scores stay exact.

        Args:
            index: ivf, sq8, hnsw, `milvus:` with a file or URI, or an index that is empty or holds every catalog item
                by its row; None scans again.

        Raises:
            ConfigError: If the index cannot be opened or holds other items, or the bundle has a drift head, whose
                probabilities need the scores of all items.
        """
        with self.catalog.lock:
            if index is None:
                self.index = None
                return
            if self.catalog.drift is not None:
                raise ConfigError("index: a drift head's chances need the scores of all items; use it without an index")
            opened = open_index(index, self.catalog.table.dim + 1) if isinstance(index, str) else index
            if len(opened) not in (0, len(self.catalog)):
                held = f"it holds {len(opened):,} items, and the catalog {len(self.catalog):,}"
                raise ConfigError(f"index: {held}; give one that is empty, or was filled with this catalog")
            self.index, self.n_held = None, len(opened)
            self._add_new_items(opened)
            self.index = opened

    def search_with_gains(self, states: Tensor, k: int, bias: Tensor, gains: SeenGains) -> TopK:
        """Return the k best items for each user state, where items of histories have other scores.

        Args:
            states: User states, (B, D).
            k: Items per state.
            bias: Added to the scores, (N,); -inf excludes an item.
            gains: What items of the histories gain.

        Returns:
            Scores and rows, (B, k) each, best first.
        """
        pairs, gain = gains.list_catalog_pairs()
        item, query = pairs.item.to(states.device), pairs.query.to(states.device)
        vectors = self.catalog.table.exact[item]
        own = (states.float()[query] * vectors).sum(1) + self.catalog.novelty_bias()[item]
        return insert_pairs(self.search(states, k, pairs, bias), pairs, own.cpu() + gain + bias.cpu()[pairs.item])

    def search(self, states: Tensor, k: int, exclude: RowPairs | None, bias: Tensor) -> TopK:
        """Return the k best items for each user state.

        Args:
            states: User states, (B, D).
            k: Items per state.
            exclude: (state, item) pairs to leave out.
            bias: Added to the scores, (N,); -inf excludes an item.

        Returns:
            Scores and rows, (B, k) each, best first.
        """
        bias, n_queries = bias.cpu(), len(states)
        allowed = bias != -torch.inf  # (N,)
        # An index cannot know what some items gain, as by a text query: then all are scored.
        if self.index is None or not bool((bias[allowed] == 0).all()):
            return self._scan(states, k, exclude, bias)
        self._add_new_items(self.index)
        nothing = torch.zeros(0, dtype=torch.int64)
        taken = nothing if exclude is None else torch.unique(exclude.query.cpu() * len(bias) + exclude.item.cpu())
        n_taken = (taken // len(bias)).bincount(minlength=n_queries)  # (B,)
        n_requested = min(HEAD * k + int(n_taken.max()), len(bias))
        queries = torch.cat([states, torch.ones_like(states[:, :1])], dim=1).float().cpu()  # (B, D + 1)
        matches = self.index.search(queries, n_requested, allowed=None if bool(allowed.all()) else allowed.numpy())
        best = self._score_candidates(states, matches.item, taken, k)
        lost = (taken // len(bias))[allowed[taken % len(bias)]].bincount(minlength=n_queries)
        is_enough = (best.item >= 0).sum(1) >= (allowed.sum() - lost).clamp(max=k)
        return best if bool(is_enough.all()) else self._scan(states, k, exclude, bias)

    def _scan(self, states: Tensor, k: int, exclude: RowPairs | None, bias: Tensor) -> TopK:
        pairs = None if exclude is None else exclude.to(states.device)
        return top_k(
            self.catalog.table, states, k, without=pairs, bias=self.catalog.novelty_bias() + bias.to(states.device)
        )

    def _score_candidates(self, states: Tensor, item: Tensor, taken: Tensor, k: int) -> TopK:
        """Return the k best of items (B, C), -1 for none, without those taken: sorted query * N + item."""
        item = item.sort(dim=1).values  # of two with the same score the lower row comes first
        row, device = item.clamp(min=0), states.device
        vectors = self.catalog.table.exact[row.to(device)]  # (B, C, D)
        score = torch.einsum("bd,bcd->bc", states.float(), vectors) + self.catalog.novelty_bias()[row.to(device)]
        pair = torch.arange(len(states))[:, None] * len(self.catalog) + row
        score = score.cpu().masked_fill((item < 0) | torch.isin(pair, taken), -torch.inf)
        best, place = score.sort(dim=1, descending=True, stable=True)
        rows = item.gather(1, place).masked_fill(best == -torch.inf, -1)
        return TopK(best[:, :k], rows[:, :k])

    def _add_new_items(self, index: ItemIndex) -> None:
        new = np.arange(self.n_held, len(self.catalog))
        if len(new):
            vectors, extra = self.catalog.table.exact[self.n_held :], self.catalog.novelty_bias()[self.n_held :]
            index.add(new, torch.cat([vectors, extra[:, None]], dim=1))
            self.n_held += len(new)
