"""A head over a log that goes by: counts are brought up to date at refresh moments, in the order of time.

A query is answered from the last refresh before it: at a daily refresh nothing of its own day is known, and a frozen
world stays as it was when the test began. Histories are as of the query all the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from llmrec.config.drift import DriftConfig
from llmrec.data.histories import Queries
from llmrec.data.interactions import Interactions, Ties
from llmrec.data.splits import Split
from llmrec.drift.head import RecentEvents
from llmrec.drift.terms.chain import LatentChain
from llmrec.drift.terms.environment import Environment
from llmrec.drift.terms.transitions import Transitions, TransitionSettings
from llmrec.drift.text_neighbors import find_text_neighbors
from llmrec.utils.arrays import Arrays, Rows
from llmrec.utils.units import SECONDS_PER_DAY

REFRESH_DAILY, NO_REFRESH = 1.0, float("inf")
PER_USER_ARRAYS = "last_item", "last_time"  # what transitions know of single users


class StreamCounts:
    """Everything that streams, as of the events observed so far: popularity that fades, and transitions.

    moment: seconds; every event before it has been counted, and none at or after it. It only moves forward.
    """

    def __init__(self, environment: Environment, transitions: Transitions) -> None:
        self.environment, self.transitions = environment, transitions
        self.moment: int | None = None
        self._n_observed = 0

    def count_until(self, log: Interactions, moment: int) -> None:
        """Observe the events of `log`, always the same one, up to `moment`."""
        end = int(log.time.searchsorted(moment))
        new = slice(self._n_observed, end)
        self.environment.observe(log.item[new], log.time[new])
        self.transitions.observe(log.user[new], log.item[new], log.time[new])
        self._n_observed, self.moment = end, moment

    def export_counts(self) -> Arrays:
        """What everyone's events add up to, without anything that is one user's."""
        parts = {"environment": self.environment.export_state(), "transitions": self.transitions.export_counts()}
        return {f"{part}.{name}": array for part, arrays in parts.items() for name, array in arrays.items()}

    def restore(self, sums: Mapping[str, NDArray[Any]]) -> None:
        """Go on from `sums`, of as many items or fewer: of users nothing is known.

        Raises:
            LookupError, ValueError: these are no sums, or they are of more items or of other half-lives.
        """
        n_items = len(self.transitions.row_sums)
        state = {name.removeprefix("environment."): array for name, array in sums.items()}
        if state["sums"].shape[0] != len(self.environment.rate) or state["sums"].shape[1] > n_items:
            raise ValueError(f"sums of shape {state['sums'].shape} do not fit {n_items} items")
        self.environment.restore(state)
        self.environment.grow_items(n_items)
        users = {name: self.transitions.export_state()[name] for name in PER_USER_ARRAYS}
        own = {name.removeprefix("transitions."): array for name, array in sums.items()}
        self.transitions.restore(own | users)
        self.transitions.grow_items(n_items)


class ChainTables(NamedTuple):
    """What a fitted chain says of every item, made once: evidence (N, K), emission (K, N), powers (R, J, K, K)."""

    chain: LatentChain
    evidence: Tensor
    emission: Tensor
    powers: Tensor

    @classmethod
    @torch.no_grad()
    def from_chain(cls, chain: LatentChain, vectors: Tensor) -> ChainTables:
        """vectors: (N, D) as the chain was fitted on."""
        return cls(chain, chain.evidence(vectors), chain.emission(vectors), chain.chain.transition_powers())

    def interest_from_history(self, recent: RecentEvents) -> Tensor:
        """(B, K) of users with these last events."""
        belief = self.chain.belief_at_query(self.evidence[recent.item], recent.age_days, recent.mask, self.powers)
        return self.chain.state_probabilities(belief)


@dataclass(frozen=True)
class ReplayStream:
    """What the head is replayed on.

    log: every event, in order of time. start: seconds; a frozen world knows the events before it. text: (N, N) chances
    by text. transition_half_life_days: one of the configured ones. chain: None without that term. trained_until:
    seconds, where the data ends that the model below was trained on; None where no time separates the two.
    """

    config: DriftConfig
    log: Interactions
    ties: Ties
    n_users: int
    start: int
    text: sparse.csr_array
    transition_half_life_days: float
    chain: ChainTables | None = None
    trained_until: int | None = None

    @classmethod
    def from_split(cls, config: DriftConfig, split: Split, ties: Ties, vectors: Tensor | None) -> ReplayStream:
        """vectors: (N, D) of `text_vectors`, or None: items without transitions then lead nowhere."""
        shape = split.n_items, split.n_items
        text_neighbors = (
            sparse.csr_array(shape) if vectors is None else find_text_neighbors(vectors, config.n_text_neighbors)
        )
        half_life = config.transition_half_lives_days[0]
        return cls(config, split.interactions, ties, split.n_users, split.test_start, text_neighbors, half_life)

    @property
    def n_items(self) -> int:
        return int(self.text.shape[0])

    def new_counts(self) -> StreamCounts:
        config = self.config
        settings = TransitionSettings(
            config.window, config.gap_decay_days, config.backward_weight, self.transition_half_life_days, self.ties
        )
        environment = Environment(self.n_items, config.half_lives_days)
        return StreamCounts(environment, Transitions(self.n_items, self.n_users, settings))

    def refresh_times(self, time: Rows, refresh_days: float) -> Rows:
        """(Q,) the last refresh moment at or before each time, counted from the last midnight before `start`."""
        if refresh_days == NO_REFRESH:
            return np.full(len(time), self.start)
        first, step = self.start // SECONDS_PER_DAY * SECONDS_PER_DAY, round(refresh_days * SECONDS_PER_DAY)
        return first + (time - first) // step * step

    def replay(
        self, counts: StreamCounts, queries: Queries, refresh_days: float
    ) -> Iterator[tuple[Rows, StreamCounts]]:
        """Rows of queries that share a refresh moment, in order, each with the world as of it."""
        moments = self.refresh_times(queries.time, refresh_days)
        for moment in np.unique(moments):
            counts.count_until(self.log, int(moment))
            yield np.flatnonzero(moments == moment), counts
