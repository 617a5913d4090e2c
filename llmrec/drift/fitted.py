"""Fitted drift head as a bundle keeps it: its weights, those of the chain, and its text vectors.

The chain was fitted on vectors of the backbone before any training. With a frozen backbone these are the item table's
own and are not written twice; otherwise they are stored too. The vectors are kept instead of the chain's tables (N, K),
because text neighbors are made from them too, and because a new item is treated like all others: its vector by the
untrained backbone, minus the same center.

The bundle also holds the counts at the end of the log, without which a bundle on another machine would not know what
people do. They are sums over all users, without users or histories; but a pair of items may come from a single user,
and `drift.keep_counts: false` leaves all of them out.
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
from llmrec.drift.stream import ReplayStream
from llmrec.drift.terms.latent_chain import ChainTables
from llmrec.drift.text_neighbors import extend_text_neighbors, find_text_neighbors
from llmrec.utils.arrays import Arrays, resize_sparse


@dataclass(frozen=True)
class FittedDrift:
    """Head with its chain, and what they need of the items."""

    head: DriftHead
    """Fitted weights."""
    transition_half_life_days: float
    """Best of the configured half-lives."""
    text: Tensor | None = None
    """Vectors of the backbone before any training, (N, D); None for ids alone."""
    center: Tensor | None = None
    """Mean of the vectors when the head was fitted, (D,)."""
    trained_until: int | None = None
    """End of the data that the model below was trained on, in seconds; None where no time separates the two."""
    counts: Arrays | None = None
    """`StreamCounts.export_counts` at the end of the log, or None."""
    text_neighbors: sparse.csr_array | None = None
    """Text neighbors of the items at the fit, slow to find in large catalogs; None to find them later."""

    @classmethod
    def from_fit(cls, fit: FittedHead, text: Tensor | None) -> FittedDrift:
        """Return a fitted head for serving.

        Args:
            fit: The head and the stream that it serves.
            text: Vectors of the untrained backbone, (N, D), or None.

        Returns:
            Drift head for a bundle.
        """
        center, stream = None if text is None else text.mean(0), fit.stream
        counts = count_stream(stream) if stream.config.keep_counts else None
        text_neighbors = stream.text if text is not None and stream.text.nnz else None
        return cls(
            fit.head, stream.transition_half_life_days, text, center, stream.trained_until, counts, text_neighbors
        )

    def recount(self, config: DriftConfig, split: Split, ties: Ties) -> FittedDrift:
        """Replace the counts, if there are any, by those of another log of the same items.

        Args:
            config: Settings of the head.
            split: Of the other log.
            ties: Order of events of one moment.

        Returns:
            Drift head with the new counts.
        """
        if self.counts is None:
            return self
        return replace(self, counts=count_stream(self.build_stream(config, split, ties, by_text=False)))

    def unit_vectors(self, text: Tensor | None = None) -> Tensor | None:
        """Return unit vectors as for the chain's fit, of the catalog or of new items.

        Args:
            text: Vectors of the untrained backbone, (R, D); None for the catalog.

        Returns:
            Unit vectors, (N, D) or (R, D); None without text.
        """
        if text is None:
            return self._vectors
        return None if self.center is None else functional.normalize(text - self.center, dim=1)

    @cached_property
    def _vectors(self) -> Tensor | None:
        """Unit vectors of the catalog, computed once."""
        return None if self.text is None else self.unit_vectors(self.text)

    def build_stream(self, config: DriftConfig, split: Split, ties: Ties, *, by_text: bool = True) -> ReplayStream:
        """Build the stream that the head is replayed on.

        Args:
            config: Settings of the head.
            split: Of a log of the bundle's items.
            ties: Order of events of one moment.
            by_text: Find text neighbors, which only transitions read.

        Returns:
            Stream with tables and a log.
        """
        vectors = None if self.text is None else self.unit_vectors(self.text[: split.n_items])
        stream = ReplayStream.from_split(config, split, ties, vectors if by_text else None)
        half_life = self.transition_half_life_days
        return replace(stream, transition_half_life_days=half_life, chain=self.build_chain_tables(vectors))

    def build_serving_stream(self, config: DriftConfig, ties: Ties, n_items: int) -> ReplayStream:
        """Build the stream that a served head starts from, with tables but without a log or users.

        Args:
            config: Settings of the head.
            ties: Order of events of one moment.
            n_items: Items of the catalog.

        Returns:
            Stream without events.
        """
        vectors, none = self.unit_vectors(), np.zeros(0, dtype=np.int64)
        if vectors is None:
            text_neighbors = sparse.csr_array((n_items, n_items))
        elif self.text_neighbors is None:
            text_neighbors = find_text_neighbors(vectors, config.n_text_neighbors)
        else:
            text_neighbors = extend_text_neighbors(self.text_neighbors, vectors, config.n_text_neighbors)
        log, half_life = Interactions(none, none, none), self.transition_half_life_days
        return ReplayStream(
            config, log, ties, 0, 0, text_neighbors, half_life, self.build_chain_tables(vectors), self.trained_until
        )

    def with_items(self, text: Tensor | None) -> FittedDrift:
        """Add new items by their text vectors.

        Args:
            text: Vectors of the new items by the untrained backbone, (R, D); None without text.

        Returns:
            Drift head with the new items.
        """
        if self.text is None or text is None:
            return self
        return replace(self, text=torch.cat([self.text, text.to(self.text)]))

    def extend_stream(self, stream: ReplayStream, n_items: int) -> ReplayStream:
        """Extend a stream of `build_serving_stream` to the current items.

        Args:
            stream: Stream of `build_serving_stream`.
            n_items: Number of items to have.

        Returns:
            Stream over `n_items` items.
        """
        vectors = self.unit_vectors()
        if vectors is None:
            return replace(stream, text=resize_sparse(stream.text, (n_items, n_items)))
        text_neighbors = extend_text_neighbors(stream.text, vectors, stream.config.n_text_neighbors)
        return replace(stream, text=text_neighbors, chain=self.build_chain_tables(vectors))

    def to_record(self) -> dict[str, Any]:
        """Return what the files of `save_drift` do not hold.

        Returns:
            JSON-compatible record.
        """
        return {name: getattr(self, name) for name in ("transition_half_life_days", "trained_until")}

    def build_chain_tables(self, vectors: Tensor | None) -> ChainTables | None:
        """Build the chain's tables of items.

        Args:
            vectors: Unit vectors of the items, (N, D); None without text.

        Returns:
            Tables; None without a chain or without text.
        """
        return None if self.head.chain is None or vectors is None else ChainTables.from_chain(self.head.chain, vectors)


def count_stream(stream: ReplayStream) -> Arrays:
    """Count a stream's log to its end, and return the counts without anything of a single user.

    Args:
        stream: Stream to count.

    Returns:
        Arrays by TERM.NAME.
    """
    counts = stream.new_counts()
    counts.count_until(stream.log, int(stream.log.time[-1]) + 1)
    return counts.export_counts()
