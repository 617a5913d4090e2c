"""A head over a log that goes by: counts are brought up to date at refresh moments, in the order of time.

A query is answered from the last refresh before it: at a daily refresh nothing of its own day is known, and a frozen
world stays as it was when the test began. Histories are as of the query all the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from llmrec.config.drift import MAX_HISTORY, DriftConfig
from llmrec.data.histories import Queries
from llmrec.data.interactions import Interactions, Ties
from llmrec.data.splits import Split
from llmrec.evaluation.ranking import Scorer
from llmrec.models.drift.environment import Environment
from llmrec.models.drift.head import DriftHead, Moves, Recent
from llmrec.models.drift.latent import LatentChain
from llmrec.models.drift.neighbours import text_neighbours
from llmrec.models.drift.transitions import Transitions, TransitionSettings
from llmrec.utils.arrays import Arrays, Rows
from llmrec.utils.units import DAY

DAILY, FROZEN = 1.0, float("inf")
OWN = "last_item", "last_time"  # what transitions know of single users


class World:
    """Everything that streams, as of the events observed so far: popularity that fades, and transitions.

    moment: seconds; every event before it has been counted, and none at or after it. It only moves forward.
    """

    def __init__(self, environment: Environment, transitions: Transitions) -> None:
        self.environment, self.transitions = environment, transitions
        self.moment: int | None = None
        self._n_observed = 0

    def advance(self, log: Interactions, moment: int) -> None:
        """Observe the events of `log`, always the same one, up to `moment`."""
        end = int(log.time.searchsorted(moment))
        new = slice(self._n_observed, end)
        self.environment.observe(log.item[new], log.time[new])
        self.transitions.observe(log.user[new], log.item[new], log.time[new])
        self._n_observed, self.moment = end, moment

    def sums(self) -> Arrays:
        """What everyone's events add up to, without anything that is one user's."""
        parts = {"environment": self.environment.state(), "transitions": self.transitions.sums()}
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
        self.environment.grow(n_items)
        users = {name: self.transitions.state()[name] for name in OWN}
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
    def of(cls, chain: LatentChain, vectors: Tensor) -> ChainTables:
        """vectors: (N, D) as the chain was fitted on."""
        return cls(chain, chain.evidence(vectors), chain.emission(vectors), chain.chain.powers())

    def interest(self, recent: Recent) -> Tensor:
        """(B, K) of users with these last events."""
        belief = self.chain.now(self.evidence[recent.item], recent.age_days, recent.mask, self.powers)
        return self.chain.interest(belief)


@dataclass(frozen=True)
class Stream:
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
    def of(cls, config: DriftConfig, split: Split, ties: Ties, vectors: Tensor | None) -> Stream:
        """vectors: (N, D) of `text_vectors`, or None: items without transitions then lead nowhere."""
        shape = split.n_items, split.n_items
        near = sparse.csr_array(shape) if vectors is None else text_neighbours(vectors, config.text_neighbours)
        half_life = config.transition_half_lives_days[0]
        return cls(config, split.interactions, ties, split.n_users, split.test_start, near, half_life)

    @property
    def n_items(self) -> int:
        return int(self.text.shape[0])

    def world(self) -> World:
        config = self.config
        settings = TransitionSettings(
            config.window, config.gap_days, config.backward, self.transition_half_life_days, self.ties
        )
        environment = Environment(self.n_items, config.half_lives_days)
        return World(environment, Transitions(self.n_items, self.n_users, settings))

    def moments(self, time: Rows, refresh_days: float) -> Rows:
        """(Q,) the last refresh moment at or before each time, counted from the last midnight before `start`."""
        if refresh_days == FROZEN:
            return np.full(len(time), self.start)
        first, step = self.start // DAY * DAY, round(refresh_days * DAY)
        return first + (time - first) // step * step

    def replay(self, world: World, queries: Queries, refresh_days: float) -> Iterator[tuple[Rows, World]]:
        """Rows of queries that share a refresh moment, in order, each with the world as of it."""
        moments = self.moments(queries.time, refresh_days)
        for moment in np.unique(moments):
            world.advance(self.log, int(moment))
            yield np.flatnonzero(moments == moment), world


class Parts(NamedTuple):
    """The three parts of the mixture for B queries: log_shares (B, 3), base (B, N) log chances, the others chances."""

    log_shares: Tensor
    base: Tensor
    moved: Tensor | float
    chained: Tensor | float


def parts_of(
    head: DriftHead, stream: Stream, scores: Tensor, recent: Recent, world: World, interest: Tensor | None = None
) -> Parts:
    """scores: (B, N) of the model that the head sits on. interest: (B, K), if not as `recent` has it."""
    base = head.base(scores, counts_of(world)).log_softmax(1)
    moves = moves_of(world, stream)
    moved = head.moved(recent, moves) if "transitions" in head.terms else 0.0
    chained = chained_of(head, stream, recent, world, interest) if "chain" in head.terms else 0.0
    return Parts(head.log_shares(recent, moves.row_sum(recent)), base, moved, chained)


def moved_of(head: DriftHead, stream: Stream, recent: Recent, world: World) -> Tensor:
    """(B, N) chances by transitions alone."""
    return head.moved(recent, moves_of(world, stream))


def chained_of(head: DriftHead, stream: Stream, recent: Recent, world: World, interest: Tensor | None = None) -> Tensor:
    """(B, N) chances by the chain alone."""
    if stream.chain is None:
        raise ValueError("the stream has no chain; fit one, or leave the term out")
    taken = head.taken(stream.chain.emission, counts_of(world)).softmax(1)  # (K, N)
    return (stream.chain.interest(recent) if interest is None else interest) @ taken


class _Following:
    """A scorer whose world follows the queries, which come in order of time.

    Where time goes back, another sweep has begun, and the world starts anew.
    """

    def __init__(self, stream: Stream, refresh_days: float) -> None:
        self.stream, self.refresh_days = stream, refresh_days
        self._world = stream.world()

    def moments(self, queries: Queries) -> Iterator[tuple[Rows, Recent, World]]:
        """Rows of the queries that share a refresh moment, their histories, and the world as of it."""
        moments = self.stream.moments(queries.time, self.refresh_days)
        if self._world.moment is not None and len(moments) and moments.min() < self._world.moment:
            self._world = self.stream.world()
        for rows, world in self.stream.replay(self._world, queries, self.refresh_days):
            yield rows, recent_of(queries.take(rows), self.stream.trained_until), world


class DriftScorer(_Following):
    """Log chances of all items."""

    def __init__(self, head: DriftHead, base: Scorer, stream: Stream, refresh_days: float = DAILY) -> None:
        super().__init__(stream, refresh_days)
        self.head, self.base = head, base

    @torch.no_grad()
    def scores(self, queries: Queries) -> Tensor:
        """(B, N)"""
        scores = self.base.scores(queries)
        for rows, recent, world in self.moments(queries):
            scores[rows] = self.head.mix(*parts_of(self.head, self.stream, scores[rows], recent, world))
        return scores


class TermScorer(_Following):
    """Chances by one part of the mixture that needs no model."""

    def __init__(self, term: Literal["transitions", "chain"], head: DriftHead, stream: Stream) -> None:
        super().__init__(stream, DAILY)
        self.head, self.chances = head, moved_of if term == "transitions" else chained_of

    @torch.no_grad()
    def scores(self, queries: Queries) -> Tensor:
        """(B, N)"""
        scores = torch.zeros(len(queries), self.stream.n_items)
        for rows, recent, world in self.moments(queries):
            scores[rows] = self.chances(self.head, self.stream, recent, world)
        return scores


def counts_of(world: World) -> Tensor:
    """(H, N) of the environment as of the world's moment."""
    return torch.from_numpy(world.environment.counts(_moment(world))).float()


def moves_of(world: World, stream: Stream) -> Moves:
    transitions = world.transitions
    return Moves(transitions.tables, transitions.row_sums, transitions.fading(_moment(world)), stream.text)


def _moment(world: World) -> int:
    if world.moment is None:
        raise ValueError("the world has not been brought to a moment yet")
    return world.moment


def recent_of(queries: Queries, trained_until: int | None = None) -> Recent:
    """The last events of each history, and the state of things that the gate looks at."""
    position, mask = queries.last(MAX_HISTORY)  # (B, T)
    time, length = queries.histories.time, mask.sum(1)
    asked = queries.time[:, None]
    event = np.where(mask, time[position] if len(time) else 0, asked)
    age = (asked - event) / DAY
    gap, span = age.min(1, where=mask, initial=np.inf), age.max(1)
    gap = np.where(length > 0, gap, 0.0)
    stale = np.zeros_like(gap) if trained_until is None else np.maximum(queries.time - trained_until, 0) / DAY
    columns = np.ones_like(gap), np.log1p(gap), np.log1p(length), gap == 0, np.log1p(span - gap), np.log1p(stale)
    context = np.stack(columns, axis=1)
    back = np.maximum(length[:, None] - 1 - np.arange(mask.shape[1]), 0)
    item = np.where(mask, queries.histories.item[position] if len(time) else 0, 0)
    return Recent(
        torch.from_numpy(item),
        torch.from_numpy(mask),
        torch.from_numpy(age).float(),
        torch.from_numpy(back).float(),
        torch.from_numpy(context).float(),
    )
