"""Membership audit: measure how well training users can be distinguished from held-out users."""

from __future__ import annotations

import dataclasses
from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor

from llmrec.config.jobs.finetune import FinetuneConfig
from llmrec.config.privacy import MembershipConfig
from llmrec.data.batches import build_training_windows
from llmrec.data.splits import TRAIN, UNUSED, Split
from llmrec.evaluation.membership import MembershipAttack, compute_user_losses
from llmrec.evaluation.metrics import Values
from llmrec.models.recommender_model import RecommenderModel
from llmrec.training.task import TrainingTask
from llmrec.training.two_stage import fit_model
from llmrec.utils.arrays import Rows


def measure_membership(
    task: TrainingTask,
    config: FinetuneConfig,
    audit: MembershipConfig,
    model: RecommenderModel,
    *,
    text: Tensor | None,
    seed: int,
) -> list[dict[str, Any]]:
    """Run membership attacks on a fitted model.

    Args:
        task: Task that the model was fitted to.
        config: Settings of the fit.
        audit: Settings of the audit.
        model: Model to attack.
        text: Frozen text vectors, (N, D_text), for the reference model; None for ids alone.
        seed: Seed of the samples and of the reference model.

    Returns:
        Each attack as the JSON of a `MembershipAttack`.
    """
    samples, rng = config.evaluation.bootstrap_samples, np.random.default_rng(seed)
    others, spare = split_held_out_users(task.split, rng, halved=audit.reference)
    members = np.unique(task.split.train.user)
    users = [np.sort(rng.permutation(group)[: audit.max_users]) for group in (members, others)]
    own = [mean_user_losses(model, task, group) for group in users]
    attacks = [MembershipAttack.from_scores("the loss", -own[0], -own[1], samples=samples)]
    if audit.reference:
        apart = replace(task, split=with_training_users(task.split, spare), privacy=None, inputs=f"{task.inputs} apart")
        reference = fit_model("reference", apart, config.model, config.train, text=text, seed=seed).watched
        expected = [mean_user_losses(reference, task, group) for group in users]
        gains = [its - ours for its, ours in zip(expected, own, strict=True)]
        attacks.append(
            MembershipAttack.from_scores("the loss relative to another model's", gains[0], gains[1], samples=samples)
        )
    return [dataclasses.asdict(attack) for attack in attacks]


def split_held_out_users(split: Split, rng: np.random.Generator, *, halved: bool) -> tuple[Rows, Rows]:
    """Divide the held-out users into the attacked ones and those of a reference model.

    Args:
        split: Split with held-out users.
        rng: Source of random numbers.
        halved: True to give half of them to the reference model, False to give none.

    Returns:
        Both groups of users, in increasing order.
    """
    held = rng.permutation(np.unique(split.interactions.user[split.part == UNUSED]))
    middle = len(held) // 2 if halved else len(held)
    return np.sort(held[:middle]), np.sort(held[middle:])


def with_training_users(split: Split, users: Rows) -> Split:
    """Return a split whose training events are those of some held-out users and no others.

    Args:
        split: Split with held-out users.
        users: Held-out users to train on.

    Returns:
        The new split.
    """
    old = np.isin(split.part, (TRAIN, UNUSED))
    chosen = np.where(np.isin(split.interactions.user, users), TRAIN, UNUSED)
    return replace(split, part=np.where(old, chosen, split.part).astype(np.int8))


def mean_user_losses(model: RecommenderModel, task: TrainingTask, users: Rows) -> Values:
    """Compute the mean loss of each user over the events of the training part, trained on or not.

    Args:
        model: Model to measure.
        task: Task with the split.
        users: Users in increasing order.

    Returns:
        Mean losses, (U,).
    """
    split = task.split
    trained = np.isin(split.part, (TRAIN, UNUSED)) & np.isin(split.interactions.user, users)
    events = split.interactions.take(trained)
    return compute_user_losses(
        model, build_training_windows(events, split.n_users, model.config.max_history, task.ties)
    )[1]
