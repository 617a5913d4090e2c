"""The best items for states of a model by an index, which need not look at all of them.

What a model adds to an item's score whoever asks is one more dimension of its vector, and the query's is 1. An index is
asked for more than is wanted, by as many as a history may hold and as much again; what it gives is scored by the exact
vectors. So it has a say in which items are found, and none in their scores.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from llmrec.errors import ConfigError
from llmrec.inference.served_catalog import ServedCatalog
from llmrec.search.index import ItemIndex
from llmrec.search.open_index import open_index
from llmrec.search.topk import RowPairs, TopK, top_k

HEAD = 2  # times k items are asked for, beside those of the history: scores of bytes put some in the wrong order


class IndexSearch:
    """Looks up a recommender's items in an index, and takes in those that it gains.

    index: a name as `open_index` has it; or an index, empty or with every item of the catalog by its row already.

    Raises:
        ConfigError: an index that cannot be opened or holds something else, or a bundle with a drift head, whose
        chances need every item's score.
    """

    def __init__(self, items: ServedCatalog, index: ItemIndex | str) -> None:
        if items.drift is not None:
            raise ConfigError("index: a drift head's chances need the scores of all items; use it without an index")
        self.items = items
        self.index = open_index(index, items.table.dim + 1) if isinstance(index, str) else index
        self.n_held = len(self.index)
        if self.n_held not in (0, len(items.catalog)):
            held = f"it holds {self.n_held:,} items, and the catalog {len(items.catalog):,}"
            raise ConfigError(f"index: {held}; give one that is empty, or was filled with this catalog")
        self._add_new_items()

    def search(self, states: Tensor, k: int, exclude: RowPairs | None, bias: Tensor) -> TopK:
        """As `scan_all`. Where some items gain more than others, as by words that are looked for, all are scored; so
        they are where the index, in spite of all, would leave fewer than k.
        """
        bias, n_queries = bias.cpu(), len(states)
        allowed = bias != -torch.inf  # (N,)
        if not bool((bias[allowed] == 0).all()):
            return scan_all(self.items, states, k, exclude, bias)
        self._add_new_items()
        nothing = torch.zeros(0, dtype=torch.int64)
        taken = nothing if exclude is None else torch.unique(exclude.query.cpu() * len(bias) + exclude.item.cpu())
        n_taken = (taken // len(bias)).bincount(minlength=n_queries)  # (B,)
        asked_for = min(HEAD * k + int(n_taken.max()), len(bias))
        queries = torch.cat([states, torch.ones_like(states[:, :1])], dim=1).float().cpu()  # (B, D + 1)
        found = self.index.search(queries, asked_for, None if bool(allowed.all()) else allowed.numpy())
        best = self._score_candidates(states, found.item, taken, k)
        lost = (taken // len(bias))[allowed[taken % len(bias)]].bincount(minlength=n_queries)
        enough = (best.item >= 0).sum(1) >= (allowed.sum() - lost).clamp(max=k)
        return best if bool(enough.all()) else scan_all(self.items, states, k, exclude, bias)

    def _score_candidates(self, states: Tensor, item: Tensor, taken: Tensor, k: int) -> TopK:
        """The k best of items (B, C), -1 where there is none, but for those taken: query * N + item of each, sorted."""
        item = item.sort(dim=1).values  # of two with the same score the lower row comes first
        row, device = item.clamp(min=0), states.device
        vectors = self.items.table.exact[row.to(device)]  # (B, C, D)
        score = torch.einsum("bd,bcd->bc", states.float(), vectors) + self.items.novelty_bias()[row.to(device)]
        pair = torch.arange(len(states))[:, None] * len(self.items.catalog) + row
        score = score.cpu().masked_fill((item < 0) | torch.isin(pair, taken), -torch.inf)
        best, position = score.sort(dim=1, descending=True, stable=True)
        found = item.gather(1, position).masked_fill(best == -torch.inf, -1)
        return TopK(best[:, :k], found[:, :k])

    def _add_new_items(self) -> None:
        """Items that the catalog has gained."""
        new = np.arange(self.n_held, len(self.items.catalog))
        if len(new):
            vectors, extra = self.items.table.exact[self.n_held :], self.items.novelty_bias()[self.n_held :]
            self.index.add(new, torch.cat([vectors, extra[:, None]], dim=1))
            self.n_held += len(new)


def scan_all(items: ServedCatalog, states: Tensor, k: int, exclude: RowPairs | None, bias: Tensor) -> TopK:
    """The k best of all items for states (B, D); bias: (N,), -inf rules an item out."""
    device = states.device
    pairs = None if exclude is None else exclude.to(device)
    return top_k(items.table, states, k, pairs, items.novelty_bias() + bias.to(device))
