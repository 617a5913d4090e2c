"""A fitted model put to the test: can the users of its training be told from those who were held out?"""

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
    asked: MembershipConfig,
    model: RecommenderModel,
    text: Tensor | None,
    seed: int,
) -> list[dict[str, Any]]:
    """The attacks on `model`, which was fitted to `task`: each as JSON of an `MembershipAttack`.

    text: (N, D_text) frozen vectors, on which the reference model is fitted, if there is to be one.
    """
    samples, rng = config.evaluation.bootstrap_samples, np.random.default_rng(seed)
    others, spare = split_held_out_users(task.split, rng, asked.reference)
    members = np.unique(task.split.train.user)
    users = [np.sort(rng.permutation(group)[: asked.max_users]) for group in (members, others)]
    own = [mean_user_losses(model, task, group) for group in users]
    attacks = [MembershipAttack.from_scores("the loss", -own[0], -own[1], samples)]
    if asked.reference:
        apart = replace(task, split=with_training_users(task.split, spare), privacy=None, inputs=f"{task.inputs} apart")
        reference = fit_model("reference", apart, config.model, config.train, text, seed).watched
        theirs = [mean_user_losses(reference, task, group) for group in users]
        gains = [its - ours for its, ours in zip(theirs, own, strict=True)]
        attacks.append(MembershipAttack.from_scores("the loss beside another model's", gains[0], gains[1], samples))
    return [dataclasses.asdict(attack) for attack in attacks]


def split_held_out_users(split: Split, rng: np.random.Generator, halved: bool) -> tuple[Rows, Rows]:
    """Users who were held out of training, and, `halved`, as many others of them."""
    held = rng.permutation(np.unique(split.interactions.user[split.part == UNUSED]))
    middle = len(held) // 2 if halved else len(held)
    return np.sort(held[:middle]), np.sort(held[middle:])


def with_training_users(split: Split, users: Rows) -> Split:
    """The split with the training events of these held-out users, and of nobody else."""
    old = np.isin(split.part, (TRAIN, UNUSED))
    chosen = np.where(np.isin(split.interactions.user, users), TRAIN, UNUSED)
    return replace(split, part=np.where(old, chosen, split.part).astype(np.int8))


def mean_user_losses(model: RecommenderModel, task: TrainingTask, users: Rows) -> Values:
    """(U,) mean losses of `users` over what they did in the training part, learned from or not."""
    split = task.split
    theirs = np.isin(split.part, (TRAIN, UNUSED)) & np.isin(split.interactions.user, users)
    events = split.interactions.take(theirs)
    return compute_user_losses(
        model, build_training_windows(events, split.n_users, model.config.max_history, task.ties)
    )[1]
