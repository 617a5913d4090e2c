"""Membership inference: attacks that decide from losses which users a model was trained on.

A user whose events were trained on tends to have a lower loss than one whose events were not (Yeom et al. 2018,
arXiv:1709.01604). Differences in difficulty between users add noise; another model, trained on neither, measures the
difficulty (Watson et al. 2022, arXiv:2111.08440). These attacks use one number per user and only the scores of a model:
they are a lower bound on what can be inferred, not an upper one.
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
    """Success of an attack that decides by one number between M members and N others."""

    name: str
    """Name of the attack."""
    auc: Interval
    """Probability that a member has the higher number, 0.5 for guessing, with a 95% interval over users."""
    true_positive_rate: float
    """Share of members that are detected at a false positive rate of FALSE_ALARMS."""
    n_members: int
    """Number of members."""
    n_non_members: int
    """Number of others."""

    @classmethod
    def from_scores(
        cls, name: str, members: Values, others: Values, *, samples: int = 1000, seed: int = 0
    ) -> MembershipAttack:
        """Measure an attack.

        Args:
            name: Name of the attack.
            members: Number of each member, (M,), higher for likely members.
            others: Number of each other user, (N,).
            samples: Number of redraws of the bootstrap.
            seed: Seed of the redraws.

        Returns:
            The success of the attack.
        """
        bar = np.quantile(others, 1 - FALSE_ALARMS, method="higher")
        caught = float((members > bar).mean())
        return cls(name, bootstrap_auc(members, others, samples=samples, seed=seed), caught, len(members), len(others))

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> MembershipAttack:
        """Read an attack from the JSON of a report.

        Args:
            record: Fields by name.

        Returns:
            The attack.
        """
        return cls(**{**record, "auc": Interval(*record["auc"])})


def bootstrap_auc(members: Values, others: Values, *, samples: int = 1000, seed: int = 0) -> Interval:
    """Compute the probability that a member is above another user, ties counting half, with its interval.

    Args:
        members: Number of each member, (M,).
        others: Number of each other user, (N,).
        samples: Number of redraws of the bootstrap.
        seed: Seed of the redraws.

    Returns:
        Probability with its 95% interval.

    Example:
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
    """Compute the mean loss of each user: - log softmax(scores)[target] over the whole catalog.

    Args:
        model: Model, used without dropout.
        windows: Windows of the users, as in training.

    Returns:
        Users, (U,), and their mean losses over targets, (U,).
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
        batch = collate_windows(windows, rows, query_time_known=model.config.query_time == "known").to(table.device)
        scores = model.score(model.encode_histories(table, batch), items, known).float()  # (M, N)
        losses.append((scores.logsumexp(1) - scores.gather(1, batch.target[:, None])[:, 0]).double().cpu().numpy())
    model.train(training)
    users, place = np.unique(user, return_inverse=True)
    return users, np.bincount(place, np.concatenate(losses)) / np.bincount(place)
