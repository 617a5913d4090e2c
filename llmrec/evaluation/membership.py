"""Who was in a model's training: told from its losses, and how often that is right.

A user whose events were trained on tends to have a lower loss than one whose events were not (Yeom et al. 2018,
arXiv:1709.01604). How hard a user is to predict blurs that; another model, which has seen neither, tells how hard
(Watson et al. 2022, arXiv:2111.08440). Users are told apart by one number each, by a model of which only scores are
known: this is a floor for what can be found out, not a ceiling.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from llmrec.data.batches import TrainingWindows, collate_windows
from llmrec.evaluation.intervals import Interval
from llmrec.evaluation.metrics import Values
from llmrec.models.recommender_model import RecommenderModel
from llmrec.utils.arrays import Rows

FALSE_ALARMS = 0.05
SCORES_AT_ONCE = 1 << 24  # 64 MiB


@dataclass(frozen=True)
class MembershipAttack:
    """How well one number tells M members from N others.

    auc: chance that a member has the higher number, .5 for guessing, with its 95% interval from a bootstrap of users.
    true_positive_rate: share of the members that are named where FALSE_ALARMS of the others are.
    """

    name: str
    auc: Interval
    true_positive_rate: float
    n_members: int
    n_non_members: int

    @classmethod
    def from_scores(
        cls, name: str, members: Values, others: Values, samples: int = 1000, seed: int = 0
    ) -> MembershipAttack:
        """members: (M,), others: (N,): the higher, the more like a member."""
        bar = np.quantile(others, 1 - FALSE_ALARMS, method="higher")
        caught = float((members > bar).mean())
        return cls(name, bootstrap_auc(members, others, samples, seed), caught, len(members), len(others))

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> MembershipAttack:
        """From the JSON of a report."""
        return cls(**{**record, "auc": Interval(*record["auc"])})


def bootstrap_auc(members: Values, others: Values, samples: int = 1000, seed: int = 0) -> Interval:
    """Chance that one of members (M,) is above one of others (N,), ties counting half, and its 95% interval.

    >>> bootstrap_auc(np.array([3.0, 1.0]), np.array([2.0, 0.0]))[0]  # 3 > 2, 3 > 0, 1 > 0, and not 1 > 2
    0.75
    """
    above = (members[:, None] > others).astype(np.float64) + 0.5 * (members[:, None] == others)  # (M, N)
    rng = np.random.default_rng(seed)
    one, other = (rng.multinomial(n, np.full(n, 1 / n), samples) / n for n in above.shape)  # (samples, M), (samples, N)
    drawn = np.einsum("sm,sm->s", one, other @ above.T)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Interval(float(above.mean()), float(low), float(high))


@torch.no_grad()
def compute_user_losses(model: RecommenderModel, windows: TrainingWindows) -> tuple[Rows, Values]:
    """Users (U,) of the windows, and for each the mean over its targets of - log softmax(scores)[target] over the whole
    catalog: asked as training asks, but without dropout.
    """
    training = model.training
    model.eval()
    table = model.items()  # (N, D)
    items, known = model.scoring_vectors(table), model.items.known
    user = windows.histories.user[windows.target]  # (E,)
    losses = []
    at_once = max(SCORES_AT_ONCE // len(items), 1)
    part = np.cumsum(windows.n_targets) // at_once
    for rows in np.split(np.arange(len(windows)), np.flatnonzero(np.diff(part)) + 1):
        batch = collate_windows(windows, rows, model.config.query_time == "known").to(table.device)
        scores = model.score(model.encode_histories(table, batch), items, known).float()  # (M, N)
        losses.append((scores.logsumexp(1) - scores.gather(1, batch.target[:, None])[:, 0]).double().cpu().numpy())
    model.train(training)
    users, place = np.unique(user, return_inverse=True)
    return users, np.bincount(place, np.concatenate(losses)) / np.bincount(place)
