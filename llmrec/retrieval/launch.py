"""Whom to show a new item.

Users are ranked by the log-probability that the item is their next, under their own softmax over the catalog:
log p(i|u) = s_ui - log sum_j exp(s_uj). Scores of different users are not comparable as they are: a user with a long
and clear history has large logits for everything, and only differences within one user are log-odds. The share of the
softmax asks how well the item does against all that this user could have instead.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from llmrec.data.interactions import Rows
from llmrec.retrieval.users import Users
from llmrec.training.scorer import ModelScorer


@dataclass(frozen=True, slots=True)
class AudienceMember:
    """One user of a ranked list.

    log_probability: of the item being the user's next. lift: that probability in multiples of the mean over all users.
    place: where the item would stand in the user's own ranking of the catalog, from 1.
    """

    rank: int
    user: str
    log_probability: float
    lift: float
    place: int
    n_events: int


@torch.no_grad()
def log_probabilities(scorer: ModelScorer, users: Users, items: Tensor, known: Tensor) -> Tensor:
    """(U, C) log-probability of items (C, D), as `scoring_items` gives them, for each user; known: (C,)."""
    model, found = scorer.model, list[Tensor]()
    for states in users.states(scorer):
        own = model.scores(states, scorer.scoring_items, model.items.known)  # (B, N)
        found.append((model.scores(states, items, known) - own.logsumexp(1, keepdim=True)).float().cpu())
    return torch.cat(found)


@torch.no_grad()
def audience(
    scorer: ModelScorer, users: Users, item: Tensor, known: Tensor, k: int, holders: Rows
) -> list[AudienceMember]:
    """The k users likeliest to want an item (1, D); those at `holders`, who have it, are left out."""
    chance = log_probabilities(scorer, users, item, known)[:, 0]  # (U,)
    mean = float(chance.logsumexp(0)) - float(np.log(len(chance)))
    chance[torch.from_numpy(holders)] = -torch.inf
    best = chance.topk(min(k, len(users) - len(holders)))
    queries = users.queries.take(best.indices.numpy())
    states = scorer.states(queries)
    own = scorer.model.scores(states, scorer.scoring_items, scorer.model.items.known)  # (K, N)
    places = 1 + (own > scorer.model.scores(states, item, known)).sum(1)  # (K,)
    lengths = queries.end - queries.start
    columns = zip(best.values.tolist(), best.indices.tolist(), places.tolist(), lengths.tolist(), strict=True)
    return [
        AudienceMember(rank, users.id(row), value, float(np.exp(value - mean)), place, n_events)
        for rank, (value, row, place, n_events) in enumerate(columns, start=1)
    ]
