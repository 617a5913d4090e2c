"""Inputs of drift terms: events, histories, weights, settings, counts and targets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from scipy import sparse
from torch import Tensor

from llmrec.config.drift import DriftConfig, TermName
from llmrec.data.histories import Queries
from llmrec.data.interactions import Ties
from llmrec.utils.arrays import Mask, Rows


class Events(NamedTuple):
    """Events of some users."""

    user: Rows
    """Row of the user of each event, (E,)."""
    item: Rows
    """Row of the item of each event, (E,)."""
    time: Rows
    """Seconds of each event, (E,)."""
    late: Mask | None = None
    """Mask of events that arrived after a newer event of their user, (E,); None if there are none."""

    @classmethod
    def from_user(cls, item: Rows, time: Rows) -> Events:
        """Return the events of one user, as row 0.

        Args:
            item: Item rows, (E,).
            time: Seconds of each event, (E,).

        Returns:
            Events, all of row 0.
        """
        return cls(np.zeros_like(item), item, time)

    def in_order(self) -> Events:
        """Return the events that are not late.

        Returns:
            Events, none of them late.
        """
        if self.late is None:
            return self
        kept = ~self.late
        return Events(self.user[kept], self.item[kept], self.time[kept])


class RecentEvents(NamedTuple):
    """Last T events of B histories, and the features of the gate."""

    item: Tensor
    """Catalog rows, (B, T)."""
    mask: Tensor
    """Mask of events, (B, T) bool; False in the padding."""
    age_days: Tensor
    """Days before the query, (B, T)."""
    steps_back: Tensor
    """Number of later events of the history, (B, T); 0 for the newest."""
    context: Tensor
    """Features of the gate, (B, N_CONTEXT)."""


class Head(Protocol):
    """The weights of a drift head, as terms read them."""

    terms: frozenset[TermName]
    """Names of the terms that are on."""

    @property
    def log_sharpness(self) -> Tensor:
        """() log factor of the model's scores."""

    @property
    def eta(self) -> Tensor:
        """(H,) weights of log counts in the base's logits."""

    @property
    def theta(self) -> Tensor:
        """(H,) weights of log counts in the logits of the chain's states."""

    @property
    def log_kappa(self) -> Tensor:
        """() log weight of text neighbors, in pairs."""

    @property
    def chain(self) -> Any:
        """Latent chain, a `LatentChain` or None."""

    def event_weights(self, recent: RecentEvents) -> Tensor:
        """Return the weight of each event, (B, T).

        Args:
            recent: Last events of B histories.

        Returns:
            Weights, (B, T).
        """

    def get_submodule(self, target: str) -> Any:
        """Return the weights that `DriftTerm.make_weights` gave the term of this name.

        Args:
            target: Name of the term.

        Returns:
            Module of the term.
        """


class Stream(Protocol):
    """The settings and tables of a `ReplayStream`, as terms read them."""

    @property
    def config(self) -> DriftConfig:
        """Drift settings of the head."""

    @property
    def ties(self) -> Ties:
        """Order of events of one moment."""

    @property
    def n_users(self) -> int:
        """Number of users, as rows."""

    @property
    def n_items(self) -> int:
        """Number of items, as rows."""

    @property
    def text(self) -> sparse.csr_array:
        """(N, N) transition probabilities by text."""

    @property
    def transition_half_life_days(self) -> float:
        """Half-life of pair counts."""

    @property
    def chain(self) -> Any:
        """Tables of the chain, a `ChainTables` or None."""


class Counts(Protocol):
    """The counts of all terms as of a moment, see `StreamCounts`."""

    @property
    def counts(self) -> Mapping[TermName, Any]:
        """`TermCounts` by term."""

    def require_moment(self) -> int:
        """Return the moment that the counts are as of.

        Returns:
            Seconds.
        """


@dataclass(frozen=True)
class TermContext:
    """Context of B histories at one moment, with what each term reads of it."""

    head: Head
    """Fitted weights."""
    recent: RecentEvents
    """Last events of the histories."""
    views: Mapping[TermName, Any]
    """View of each term, from `DriftTerm.read`."""
    vectors: Tensor | None
    """Unit text vectors of the catalog and of R other items in histories, (N + R, D); None without text."""
    config: DriftConfig
    """Settings of the head."""


@dataclass(frozen=True)
class ExplainTarget:
    """Item that an explanation of one history is about."""

    row: int | None
    """Catalog row, None for an item outside the catalog."""
    vectors: Tensor | None
    """Unit text vector of an item outside the catalog, (1, D); None without text."""
    events: Rows
    """Positions of the explained events in the histories of `queries`, the last ones, (E,)."""
    queries: Queries
    """The one history, at its query time."""


@dataclass(frozen=True)
class TargetPass:
    """Targets of B validation queries of one moment, as a term's likelihood reads them."""

    recent: RecentEvents
    """Last events of the histories."""
    log_weight: Tensor
    """Log weights of the sampled softmax, (C,)."""
    views: Mapping[TermName, Any]
    """View of each term for the C sampled columns and the B targets, from `DriftTerm.gather`."""
