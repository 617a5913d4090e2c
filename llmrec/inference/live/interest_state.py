"""Live users' beliefs about their latent interest, brought up to date event by event, in O(K^2) and without gradient.

The same steps as `LatentChain.belief_at_query`, but of everything a user ever did, where that begins anew with the last
events.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llmrec.drift.markov_chain import N_POWERS, TICKS_PER_DAY, propagate, to_ticks
from llmrec.drift.stream import ChainTables
from llmrec.utils.arrays import Rows, concat_ranges
from llmrec.utils.units import SECONDS_PER_DAY

Floats = NDArray[np.float32]
MAX_LOOP_EVENTS = 8  # events that are sooner done one by one


class InterestState:
    """(U, 2, K) slow and fast beliefs, each as of its user's newest event."""

    def __init__(self, tables: ChainTables, n_users: int) -> None:
        self.set_tables(tables)
        # One event is done in numpy: each of torch's calls costs as much as the arithmetic.
        self.powers: Floats = np.ascontiguousarray(tables.powers.transpose(0, 1).numpy())  # (J, 2, K, K)
        with torch.no_grad():
            self.newcomer: Floats = tables.chain.initial_belief(1)[0].numpy()  # (2, K)
            self.gain: Floats = torch.sigmoid(tables.chain.gain).numpy()[:, None]  # (2, 1)
        self.rows: Floats = np.tile(self.newcomer, (n_users, 1, 1))

    def set_tables(self, tables: ChainTables) -> None:
        """Go on with the same chain over more items."""
        self.tables = tables
        self.evidence: Floats = tables.evidence.numpy()  # (N, K)

    def grow_users(self, n_users: int) -> None:
        """Make room for `n_users` users, those there are among them."""
        self.rows = np.concatenate([self.rows, np.tile(self.newcomer, (n_users - len(self.rows), 1, 1))])

    def observe(self, user: int, item: int, gap_seconds: int) -> None:
        """An event on `item`, so long after the user's newest: one product with P for each bit of the gap in ticks."""
        belief = self.rows[user]  # (2, K)
        gap, position = min(round(gap_seconds * TICKS_PER_DAY / SECONDS_PER_DAY), 2**N_POWERS - 1), 0
        while gap:
            if gap & 1:
                belief = np.matmul(belief[:, None], self.powers[position])[:, 0]
            gap, position = gap >> 1, position + 1
        self.rows[user] = (1 - self.gain) * belief + self.gain * self.evidence[item]

    @torch.no_grad()
    def observe_many(self, user: Rows, item: Rows, gap_seconds: Rows) -> None:
        """Events (E,) in order of arrival: everyone's first of them at once, then everyone's second, ..."""
        by_user = np.argsort(user, kind="stable")
        turn = np.empty_like(by_user)
        turn[by_user] = concat_ranges(np.unique(user, return_counts=True)[1])
        chain, powers = self.tables.chain, self.tables.powers
        for rows in np.split(np.argsort(turn, kind="stable"), np.cumsum(np.bincount(turn))[:-1]):
            if len(rows) < MAX_LOOP_EVENTS:
                for row in rows.tolist():
                    self.observe(int(user[row]), int(item[row]), int(gap_seconds[row]))
                continue
            gap = to_ticks(torch.from_numpy(gap_seconds[rows] / SECONDS_PER_DAY))
            belief = propagate(torch.from_numpy(self.rows[user[rows]]), gap, powers)
            self.rows[user[rows]] = chain.update_belief(
                belief, self.tables.evidence[torch.from_numpy(item[rows])]
            ).numpy()

    @torch.no_grad()
    def interest(self, users: Rows, gap_seconds: Rows) -> Tensor:
        """(B, K) chances of the states, so long after each user's newest event."""
        gap = to_ticks(torch.from_numpy(gap_seconds / SECONDS_PER_DAY))
        belief = propagate(torch.from_numpy(self.rows[users]), gap, self.tables.powers)
        return self.tables.chain.state_probabilities(belief)
