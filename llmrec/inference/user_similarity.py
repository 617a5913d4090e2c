"""Users who are alike, and what they have in common.

State vectors are compared less the mean of all users: what everyone is offered alike, popularity above all, makes
nobody anyone's friend.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from llmrec.errors import ConfigError
from llmrec.inference.item_similarity import find_nearest_pairs
from llmrec.inference.log_users import LogUsers
from llmrec.inference.queries import History, Time, parse_histories
from llmrec.inference.served_catalog import ServedCatalog, cosine_matrix
from llmrec.utils.arrays import Rows

MAX_IN_COMMON = 5


@dataclass(frozen=True, slots=True)
class SimilarPair:
    """Two items, of one user and of the other, and how alike the model sees them (cosine)."""

    mine: str
    theirs: str
    similarity: float


@dataclass(frozen=True, slots=True)
class SimilarUser:
    """One user of a ranked list.

    similarity: cosine of the users' states. n_events: of the user. n_shared: items that both have; shared: ids of the
    up to five of them that come last in the history asked about. alike: the most similar items that they do not share.
    An item that was asked about by its text is told by it.
    """

    rank: int
    user: str
    similarity: float
    n_events: int
    n_shared: int
    shared: tuple[str, ...]
    alike: tuple[SimilarPair, ...]


@torch.no_grad()
def cosine_to_user(state: Tensor, states: Tensor) -> Tensor:
    """(1, D), (U, D) -> (U,) cosines, both less the mean of the U states."""
    centre = states.mean(0)
    return cosine_matrix(state - centre, states - centre)[0]


@torch.no_grad()
def find_common_items(
    mine: Rows, theirs: Rows, vectors: Tensor, names: Sequence[str]
) -> tuple[list[str], list[SimilarPair]]:
    """Ids of shared items, newest of mine first, and the pairs of others that are most alike.

    mine, theirs: rows of `vectors` (N + R, D) and of `names`, oldest first.
    """
    among_theirs = set(theirs.tolist())
    shared = [row for row in dict.fromkeys(mine[::-1].tolist()) if row in among_theirs]
    left, right = (np.setdiff1d(rows, shared) for rows in (mine, theirs))
    pairs = find_nearest_pairs(vectors[left], vectors[right], MAX_IN_COMMON)
    alike = [SimilarPair(names[left[row]], names[right[column]], value) for row, column, value in pairs]
    return [names[row] for row in shared], alike


@torch.no_grad()
def rank_similar_users(
    catalog: ServedCatalog, users: LogUsers, who: History, k: int, at: Time | None = None, states: Tensor | None = None
) -> list[SimilarUser]:
    """The k of `users` most like one of them (an id), who is left out, or like a history's user. states: theirs, where
    they are known already.

    Raises:
        ConfigError: a user or history without events before `at`.
    """
    states = torch.cat(list(users.iterate_states(catalog.scorer))) if states is None else states
    names = list[str](catalog.items.ids.to_pylist())
    vectors, itself = catalog.scorer.scoring_items, users.find_user(who) if isinstance(who, str) else -1
    if isinstance(who, str):
        state, mine = states[[itself]], users.user_items(itself)
    else:
        batch = parse_histories(catalog.items, [who], at)
        cold, mine = catalog.cold_item_vectors(batch.texts), batch.queries.histories.item
        if not len(mine):
            raise ConfigError("the history has no events (before `at`): there is nothing to be like")
        state, names = catalog.scorer.encode_histories(batch.queries, cold), [*names, *batch.texts]
        if cold is not None:
            vectors = torch.cat([vectors, catalog.scorer.model.scoring_vectors(cold)])
    similarity = cosine_to_user(state, states)
    if itself >= 0:
        similarity[itself] = -torch.inf
    found = similarity.topk(min(k, len(users) - (itself >= 0)))
    ranked = enumerate(zip(found.values.tolist(), found.indices.tolist(), strict=True), start=1)
    return [_to_result(rank, users, position, value, mine, vectors, names) for rank, (value, position) in ranked]


def _to_result(
    rank: int, users: LogUsers, position: int, similarity: float, mine: Rows, vectors: Tensor, names: Sequence[str]
) -> SimilarUser:
    theirs = users.user_items(position)
    shared, alike = find_common_items(mine, theirs, vectors, names)
    few = tuple(shared[:MAX_IN_COMMON])
    return SimilarUser(rank, users.user_id(position), similarity, len(theirs), len(shared), few, tuple(alike))
