"""A head over a log that goes by: counts are brought up to date at refresh moments, in the order of time.

A query is answered from the last refresh before it: at a daily refresh nothing of its own day is known, and a frozen
world stays as it was when the test began. Histories are as of the query all the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from llmrec.config import DriftConfig
from llmrec.data.histories import Queries
from llmrec.data.interactions import Interactions, Rows, Ties
from llmrec.data.splits import Split
from llmrec.evaluation.ranking import Scorer
from llmrec.models.drift.environment import DAY, Environment
from llmrec.models.drift.head import DriftHead, Moves, Recent
from llmrec.models.drift.neighbours import text_neighbours
from llmrec.models.drift.transitions import Transitions, TransitionSettings

DAILY, FROZEN = 1.0, float("inf")
MAX_HISTORY = 50


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


@dataclass(frozen=True)
class Stream:
    """What the head is replayed on.

    log: every event, in order of time. start: seconds; a frozen world knows the events before it. text: (N, N) chances
    by text. transition_half_life_days: one of the configured ones.
    """

    config: DriftConfig
    log: Interactions
    ties: Ties
    n_users: int
    start: int
    text: sparse.csr_array
    transition_half_life_days: float

    @classmethod
    def of(cls, config: DriftConfig, split: Split, ties: Ties, text: Tensor | None) -> Stream:
        """text: (N, D_text) vectors, or None: items without transitions then lead nowhere."""
        shape = split.n_items, split.n_items
        near = sparse.csr_array(shape) if text is None else text_neighbours(text, config.text_neighbours)
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


class DriftScorer:
    """Log chances of all items, from a world that follows the queries; queries come in order of time.

    Where time goes back, another sweep has begun, and the world starts anew.
    """

    def __init__(self, head: DriftHead, base: Scorer, stream: Stream, refresh_days: float = DAILY) -> None:
        self.head, self.base, self.stream, self.refresh_days = head, base, stream, refresh_days
        self._world = stream.world()

    @torch.no_grad()
    def scores(self, queries: Queries) -> Tensor:
        """(B, N)"""
        scores = self.base.scores(queries)
        moments = self.stream.moments(queries.time, self.refresh_days)
        if self._world.moment is not None and len(moments) and moments.min() < self._world.moment:
            self._world = self.stream.world()
        for rows, world in self.stream.replay(self._world, queries, self.refresh_days):
            scores[rows] = self._chances(scores[rows], recent_of(queries.take(rows)), world)
        return scores

    def _chances(self, scores: Tensor, recent: Recent, world: World) -> Tensor:
        base = self.head.base(scores, counts_of(world))
        if "transitions" not in self.head.terms:
            return base
        moved = self.head.moved(recent, moves_of(world, self.stream))
        return self.head.mix(base, moved, self.head.odds(recent)[:, None])


class TransitionScorer(DriftScorer):
    """The second part of the mixture alone."""

    def _chances(self, scores: Tensor, recent: Recent, world: World) -> Tensor:
        return self.head.moved(recent, moves_of(world, self.stream))


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


def recent_of(queries: Queries) -> Recent:
    """The last events of each history, and the state of the history that the gate looks at."""
    position, mask = queries.last(MAX_HISTORY)  # (B, T)
    time, length = queries.histories.time, mask.sum(1)
    asked = queries.time[:, None]
    event = np.where(mask, time[position] if len(time) else 0, asked)
    age = (asked - event) / DAY
    gap, span = age.min(1, where=mask, initial=np.inf), age.max(1)
    gap = np.where(length > 0, gap, 0.0)
    context = np.stack([np.ones_like(gap), np.log1p(gap), np.log1p(length), gap == 0, np.log1p(span - gap)], axis=1)
    back = np.maximum(length[:, None] - 1 - np.arange(mask.shape[1]), 0)
    item = np.where(mask, queries.histories.item[position] if len(time) else 0, 0)
    return Recent(
        torch.from_numpy(item),
        torch.from_numpy(mask),
        torch.from_numpy(age).float(),
        torch.from_numpy(back).float(),
        torch.from_numpy(context).float(),
    )
