"""A fitted drift head, as a bundle keeps it: its weights, the chain's among them, and the text that the chain reads.

The chain was fitted on vectors of the backbone as it was before any training. Under feature transfer these are the
item table's own, and are not written twice; where the backbone was trained they are stored beside it. Kept are the
vectors and not the chain's tables (N, K), because text neighbours are made of them too, and because an item that comes
later is placed like all others: its vector by the untrained backbone, less the same centre.

Beside them lies what was counted by the end of the log, popularity that fades and transitions, of which the head
lives: without it a bundle that was sent elsewhere would know nothing of what people do. It is everyone's sums, with no
user and no history in it; but a pair of items that only one person took is, and `drift.keep_counts: false` leaves all
of it out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor
from torch.nn import functional

from llmrec.config.drift import DriftConfig
from llmrec.data.interactions import Interactions, Ties
from llmrec.data.splits import Split
from llmrec.drift.fit_head import FittedHead
from llmrec.drift.head import DriftHead
from llmrec.drift.stream import ChainTables, ReplayStream
from llmrec.drift.text_neighbors import extend_text_neighbors, find_text_neighbors
from llmrec.utils.arrays import Arrays, resize_sparse


@dataclass(frozen=True)
class FittedDrift:
    """A head with its chain, and what they need of the items.

    transition_half_life_days: the one of the configured ones that suited best. text: (N, D) vectors of the backbone
    before any training of it, or None for ids alone. centre: (D,) their mean when the head was fitted. trained_until:
    seconds, where the data ends that the model below was trained on, if time separates the two. counts: arrays of
    `StreamCounts.export_counts` at the end of the log, or None. text_neighbors: text neighbours of the items that there
    were at the fit, which take long to find in a large catalog; None where they are to be found anew.
    """

    head: DriftHead
    transition_half_life_days: float
    text: Tensor | None = None
    centre: Tensor | None = None
    trained_until: int | None = None
    counts: Arrays | None = None
    text_neighbors: sparse.csr_array | None = None

    @classmethod
    def from_fit(cls, fit: FittedHead, text: Tensor | None) -> FittedDrift:
        """fit: the head on the stream that it is to serve. text: the vectors that it was made with."""
        centre, stream = None if text is None else text.mean(0), fit.stream
        counts = count_stream(stream) if stream.config.keep_counts else None
        text_neighbors = stream.text if text is not None and stream.text.nnz else None
        return cls(
            fit.head, stream.transition_half_life_days, text, centre, stream.trained_until, counts, text_neighbors
        )

    def recount(self, config: DriftConfig, split: Split, ties: Ties) -> FittedDrift:
        """With the counts of another log of the bundle's items, where it has any."""
        if self.counts is None:
            return self
        return replace(self, counts=count_stream(self.build_stream(config, split, ties, by_text=False)))

    def unit_vectors(self, text: Tensor | None = None) -> Tensor | None:
        """(N, D) unit vectors as the chain was fitted on: of the catalog, or of other `text` read by the untrained
        backbone.
        """
        if text is None:
            return self._vectors
        return None if self.centre is None else functional.normalize(text - self.centre, dim=1)

    @cached_property
    def _vectors(self) -> Tensor | None:
        """Of the catalog; kept, as each question asks for them."""
        return None if self.text is None else self.unit_vectors(self.text)

    def build_stream(self, config: DriftConfig, split: Split, ties: Ties, by_text: bool = True) -> ReplayStream:
        """What the head is replayed on, over a log of the bundle's items. by_text: where only counted moves and the
        chain are looked at, there is no need of text neighbours.
        """
        vectors = None if self.text is None else self.unit_vectors(self.text[: split.n_items])
        stream = ReplayStream.from_split(config, split, ties, vectors if by_text else None)
        half_life = self.transition_half_life_days
        return replace(stream, transition_half_life_days=half_life, chain=self.build_chain_tables(vectors))

    def build_serving_stream(self, config: DriftConfig, ties: Ties, n_items: int) -> ReplayStream:
        """What the head goes on from where it serves: its tables over the items, no log, and no users as yet."""
        vectors, nobody = self.unit_vectors(), np.zeros(0, dtype=np.int64)
        if vectors is None:
            text_neighbors = sparse.csr_array((n_items, n_items))
        elif self.text_neighbors is None:
            text_neighbors = find_text_neighbors(vectors, config.n_text_neighbors)
        else:
            text_neighbors = extend_text_neighbors(self.text_neighbors, vectors, config.n_text_neighbors)
        log, half_life = Interactions(nobody, nobody, nobody), self.transition_half_life_days
        return ReplayStream(
            config, log, ties, 0, 0, text_neighbors, half_life, self.build_chain_tables(vectors), self.trained_until
        )

    def with_items(self, text: Tensor | None) -> FittedDrift:
        """With new items, by their vectors (R, D) of the backbone before any training."""
        if self.text is None or text is None:
            return self
        return replace(self, text=torch.cat([self.text, text.to(self.text)]))

    def extend_stream(self, stream: ReplayStream, n_items: int) -> ReplayStream:
        """A stream of `build_serving_stream` with the items that came since."""
        vectors = self.unit_vectors()
        if vectors is None:
            return replace(stream, text=resize_sparse(stream.text, (n_items, n_items)))
        text_neighbors = extend_text_neighbors(stream.text, vectors, stream.config.n_text_neighbors)
        return replace(stream, text=text_neighbors, chain=self.build_chain_tables(vectors))

    def to_record(self) -> dict[str, Any]:
        """What is not in the files of `save_drift`."""
        return {name: getattr(self, name) for name in ("transition_half_life_days", "trained_until")}

    def build_chain_tables(self, vectors: Tensor | None) -> ChainTables | None:
        """What the chain says of items with these vectors (N, D)."""
        return None if self.head.chain is None or vectors is None else ChainTables.from_chain(self.head.chain, vectors)


def count_stream(stream: ReplayStream) -> Arrays:
    """What everyone's events add up to at the end of a stream's log."""
    counts = stream.new_counts()
    counts.count_until(stream.log, int(stream.log.time[-1]) + 1)
    return counts.export_counts()
