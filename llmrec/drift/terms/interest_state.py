"""Beliefs about the latent interest of live users, updated event by event without gradient.

An update takes O(K^2). The steps are those of `LatentChain.belief_at_query`, but over all events of a user instead of
the last ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llmrec.drift.markov_chain import N_POWERS, TICKS_PER_DAY, propagate, to_ticks
from llmrec.drift.terms.latent_chain import ChainTables, get_tables
from llmrec.drift.terms.term_inputs import Stream
from llmrec.utils.arrays import Arrays, Rows, concat_ranges
from llmrec.utils.units import SECONDS_PER_DAY

Floats = NDArray[np.float32]
MAX_LOOP_EVENTS = 8  # faster one by one
BELIEF = "belief"  # name in the state file


class InterestState:
    """Slow and fast beliefs of U users.

    Attributes:
        rows: (U, 2, K), each as of its user's newest event.
        new_user: (2, K) beliefs about a new user.
    """

    def __init__(self, tables: ChainTables, n_users: int) -> None:
        self.set_tables(tables)
        # One event is done in numpy: each of torch's calls costs as much as the arithmetic.
        self.powers: Floats = np.ascontiguousarray(tables.powers.transpose(0, 1).numpy())  # (J, 2, K, K)
        with torch.no_grad():
            self.new_user: Floats = tables.chain.initial_belief(1)[0].numpy()  # (2, K)
            self.gain: Floats = torch.sigmoid(tables.chain.gain).numpy()[:, None]  # (2, 1)
        self.rows: Floats = np.tile(self.new_user, (n_users, 1, 1))

    def set_stream(self, stream: Stream) -> None:
        """Continue with the chain tables of a stream that has more items.

        Args:
            stream: Stream that has more items.

        Raises:
            ValueError: If it has no chain.
        """
        self.set_tables(get_tables(stream))

    def set_tables(self, tables: ChainTables) -> None:
        """Continue with the same chain over more items.

        Args:
            tables: Tables of the same chain over more items.
        """
        self.tables = tables
        self.evidence: Floats = tables.evidence.numpy()  # (N, K)

    def grow_users(self, n_users: int) -> None:
        """Add new users up to `n_users`.

        Args:
            n_users: Number of users to have.
        """
        self.rows = np.concatenate([self.rows, np.tile(self.new_user, (n_users - len(self.rows), 1, 1))])

    def observe(self, user: int, item: int, gap_seconds: int) -> None:
        """Record an event, with one product with P for each bit of the gap in ticks.

        Args:
            user: Row of the user.
            item: Row of the item.
            gap_seconds: Seconds since the user's newest event.
        """
        belief = self.rows[user]  # (2, K)
        gap, position = min(round(gap_seconds * TICKS_PER_DAY / SECONDS_PER_DAY), 2**N_POWERS - 1), 0
        while gap:
            if gap & 1:
                belief = np.matmul(belief[:, None], self.powers[position])[:, 0]
            gap, position = gap >> 1, position + 1
        self.rows[user] = (1 - self.gain) * belief + self.gain * self.evidence[item]

    def forget(self, user: int) -> None:
        """Reset a user to the beliefs about a new one."""
        self.rows[user] = self.new_user

    def copy_rows(self, rows: Rows, other: InterestState, other_rows: Rows) -> None:
        """Copy the beliefs of users from another state.

        Args:
            rows: Users to change, (B,).
            other: Object that the state comes from.
            other_rows: Users of `other`, (B,).
        """
        self.rows[rows] = other.rows[other_rows]

    def export_state(self) -> Arrays:
        """Return the beliefs by their name in the state file, without a copy.

        Returns:
            Arrays by name.
        """
        return {BELIEF: self.rows}

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Continue from the array of `export_state`.

        Args:
            state: Arrays of `export_state`.
        """
        self.rows = state[BELIEF]

    @torch.no_grad()
    def observe_many(self, user: Rows, item: Rows, gap_seconds: Rows) -> None:
        """Record events in order of arrival: the first of each user at once, then the second, and so on.

        Args:
            user: Row of the user of each event, (E,).
            item: Row of the item of each event, (E,).
            gap_seconds: Seconds since the user's newest event, (E,).
        """
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
    def read(self, users: Rows, gap_seconds: Rows) -> Tensor:
        """Return the probabilities of the states some time after each user's newest event.

        Args:
            users: Rows of users, (B,).
            gap_seconds: Seconds since each user's newest event, (B,).

        Returns:
            Probabilities of the states, (B, K).
        """
        gap = to_ticks(torch.from_numpy(gap_seconds / SECONDS_PER_DAY))
        belief = propagate(torch.from_numpy(self.rows[users]), gap, self.tables.powers)
        return self.tables.chain.state_probabilities(belief)
