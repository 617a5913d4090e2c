"""What drift terms read: events, histories, weights, settings, counts, and the targets of a fit or an explanation."""

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
    """E events; `late` marks those that arrived after a newer event of their user, None if there are none."""

    user: Rows
    item: Rows
    time: Rows
    late: Mask | None = None

    @classmethod
    def from_user(cls, item: Rows, time: Rows) -> Events:
        """Return the events of one user, as row 0."""
        return cls(np.zeros_like(item), item, time)

    def in_order(self) -> Events:
        """Return the events that are not late."""
        if self.late is None:
            return self
        kept = ~self.late
        return Events(self.user[kept], self.item[kept], self.time[kept])


class RecentEvents(NamedTuple):
    """Last T events of B histories, and the features of the gate."""

    item: Tensor  # (B, T) catalog rows
    mask: Tensor  # (B, T) bool
    age_days: Tensor  # (B, T) before the query
    steps_back: Tensor  # (B, T) 0 for the newest
    context: Tensor  # (B, N_CONTEXT)


class Head(Protocol):
    """The weights of a drift head, as terms read them."""

    terms: frozenset[TermName]

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
        """The `LatentChain`, or None."""

    def event_weights(self, recent: RecentEvents) -> Tensor:
        """Return the weight of each event, (B, T)."""

    def get_submodule(self, target: str) -> Any:
        """Return the weights that `DriftTerm.make_weights` gave the term of this name."""


class Stream(Protocol):
    """The settings and tables of a `ReplayStream`, as terms read them."""

    @property
    def config(self) -> DriftConfig:
        """Settings of the head."""

    @property
    def ties(self) -> Ties:
        """Order of events of one moment."""

    @property
    def n_users(self) -> int:
        """Users, as rows."""

    @property
    def n_items(self) -> int:
        """Items, as rows."""

    @property
    def text(self) -> sparse.csr_array:
        """(N, N) transition probabilities by text."""

    @property
    def transition_half_life_days(self) -> float:
        """Half-life of pair counts."""

    @property
    def chain(self) -> Any:
        """The `ChainTables`, or None."""


class Counts(Protocol):
    """The counts of all terms as of a moment, see `StreamCounts`."""

    @property
    def counts(self) -> Mapping[TermName, Any]:
        """`TermCounts` by term."""

    def require_moment(self) -> int:
        """Return the moment that the counts are as of."""


@dataclass(frozen=True)
class TermContext:
    """B histories at one moment, and what each term reads of that moment.

    Attributes:
        head: Fitted weights.
        recent: Last events of the histories.
        views: What `DriftTerm.read` returned, by term.
        vectors: Unit text vectors (N + R, D) of the catalog and of the R items outside it that histories hold; None
            for a bundle on ids alone.
        config: Settings of the head.
    """

    head: Head
    recent: RecentEvents
    views: Mapping[TermName, Any]
    vectors: Tensor | None
    config: DriftConfig


@dataclass(frozen=True)
class ExplainTarget:
    """The item that an explanation of one history is about.

    Attributes:
        row: Catalog row, None for an item outside the catalog.
        vectors: (1, D) unit text vector of an item outside the catalog, None without text.
        events: (E,) positions of the explained events in the histories of `queries`, the last ones.
        queries: The one history, at its query time.
    """

    row: int | None
    vectors: Tensor | None
    events: Rows
    queries: Queries


@dataclass(frozen=True)
class TargetPass:
    """Targets of B validation queries of one moment, as a term's likelihood reads them.

    Attributes:
        recent: Last events of the histories.
        log_weight: (C,) log weights of the sampled softmax.
        views: What `DriftTerm.gather` returned for the C sampled columns and the B targets, by term.
    """

    recent: RecentEvents
    log_weight: Tensor
    views: Mapping[TermName, Any]
