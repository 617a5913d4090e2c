"""Similar users, and the items that they have in common.

State vectors are compared less the mean of all users: the part that all users share, popularity above all, makes no
two users similar.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from llmrec.data.ids import is_id
from llmrec.errors import ConfigError
from llmrec.inference.item_similarity import find_nearest_pairs
from llmrec.inference.log_users import LogUsers
from llmrec.inference.queries import History, Time, parse_histories
from llmrec.inference.served_catalog import ServedCatalog
from llmrec.inference.text_space import cosine_matrix
from llmrec.utils.arrays import Rows
from llmrec.utils.result_list import ResultList

MAX_IN_COMMON = 5


@dataclass(frozen=True, slots=True)
class SimilarPair:
    """An item of each of two users, and the similarity that the model gives them."""

    own: str
    """Item of the query's user: an id, or the text of an item in no catalog."""
    other: str
    """Id of the similar user's item."""
    similarity: float
    """Cosine of the item vectors."""


@dataclass(frozen=True, slots=True)
class SimilarUser:
    """One user of a ranked list."""

    rank: int
    """Position in the list, from 1."""
    user: str
    """The user's id, or pseudonym."""
    similarity: float
    """Cosine of the user states."""
    n_events: int
    """Events of the user."""
    n_shared: int
    """Items that both users have."""
    shared: tuple[str, ...]
    """Ids of at most five shared items, the last ones of the query's history."""
    similar_pairs: tuple[SimilarPair, ...]
    """Most similar pairs of items that the users do not share."""

    def to_cells(self) -> dict[str, str]:
        """Return the cells of a table."""
        found = {"user": self.user, "similarity": f"{self.similarity:.3f}", "events": f"{self.n_events:,}"}
        return {**found, "shared": f"{self.n_shared:,}"}


@torch.no_grad()
def cosine_to_user(state: Tensor, states: Tensor) -> Tensor:
    """Compute the cosine of a user state with others, all less the mean of the others.

    Args:
        state: User state, (1, D).
        states: States of U users, (U, D).

    Returns:
        (U,)
    """
    center = states.mean(0)
    return cosine_matrix(state - center, states - center)[0]


@torch.no_grad()
def find_common_items(
    own: Rows, other: Rows, vectors: Tensor, names: Sequence[str]
) -> tuple[list[str], list[SimilarPair]]:
    """Find the items that two users share, and the most similar pairs among their other items.

    Args:
        own: Items of one user, rows of `vectors` and `names`, oldest first.
        other: Items of the other user, likewise.
        vectors: Item vectors of the catalog and of R texts, (N + R, D).
        names: Ids and texts, (N + R,).

    Returns:
        Names of shared items, the newest of `own` first, and at most `MAX_IN_COMMON` pairs.
    """
    among_other = set(other.tolist())
    shared = [row for row in dict.fromkeys(own[::-1].tolist()) if row in among_other]
    left, right = (np.setdiff1d(rows, shared) for rows in (own, other))
    pairs = find_nearest_pairs(vectors[left], vectors[right], MAX_IN_COMMON)
    similar_pairs = [SimilarPair(names[left[row]], names[right[column]], value) for row, column, value in pairs]
    return [names[row] for row in shared], similar_pairs


@torch.no_grad()
def rank_similar_users(
    catalog: ServedCatalog,
    users: LogUsers,
    who: History,
    k: int,
    *,
    at: Time | None = None,
    states: Tensor | None = None,
) -> ResultList[SimilarUser]:
    """Return the k users whose state is most similar to that of a user or history.

    Args:
        catalog: Items and their vectors.
        users: U users of a log.
        who: Id of one of the users, who is left out of the answer, or a history.
        k: Number of users.
        at: Query time of a history.
        states: States of `users`, (U, D); computed if None.

    Returns:
        At most k users, best first.

    Raises:
        ConfigError: If the user or history has no events before `at`.
    """
    states = torch.cat(list(users.iterate_states(catalog.scorer))) if states is None else states
    names = list[str](catalog.items.ids.to_pylist())
    vectors, itself = catalog.scorer.scoring_items, users.find_user(who) if is_id(who) else -1
    if is_id(who):
        state, own = states[[itself]], users.user_items(itself)
    else:
        batch = parse_histories(catalog.items, [who], at=at)
        cold, own = catalog.cold_item_vectors(batch.texts), batch.queries.histories.item
        if not len(own):
            raise ConfigError("the history has no events (before `at`): there is nothing to be like")
        state, names = catalog.scorer.encode_histories(batch.queries, cold), [*names, *batch.texts]
        if cold is not None:
            vectors = torch.cat([vectors, catalog.scorer.model.scoring_vectors(cold)])
    similarity = cosine_to_user(state, states)
    if itself >= 0:
        similarity[itself] = -torch.inf
    found = similarity.topk(min(k, len(users) - (itself >= 0)))
    ranked = enumerate(zip(found.values.tolist(), found.indices.tolist(), strict=True), start=1)
    return ResultList(
        _to_result(rank, users, position, value, own=own, vectors=vectors, names=names)
        for rank, (value, position) in ranked
    )


def _to_result(
    rank: int, users: LogUsers, position: int, similarity: float, *, own: Rows, vectors: Tensor, names: Sequence[str]
) -> SimilarUser:
    other = users.user_items(position)
    shared, similar_pairs = find_common_items(own, other, vectors, names)
    few = tuple(shared[:MAX_IN_COMMON])
    return SimilarUser(rank, users.user_id(position), similarity, len(other), len(shared), few, tuple(similar_pairs))
