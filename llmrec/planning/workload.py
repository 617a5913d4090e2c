"""How often a run does what: pure arithmetic on a log and a configuration, before anything is trained."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from llmrec.config.jobs.finetune import FinetuneConfig
from llmrec.config.model import ModelConfig
from llmrec.config.split import SplitName
from llmrec.config.train import TrainConfig
from llmrec.data.batches import epoch_batches, training_windows
from llmrec.data.histories import make_queries
from llmrec.data.interactions import Ties
from llmrec.data.log import Log
from llmrec.data.splits import VALID, Split, make_split
from llmrec.evaluation.aggregate import queries_of_test
from llmrec.training.task import sasrecs


@dataclass(frozen=True)
class Loop:
    """One run of the training loop, in an epoch: optimizer steps, measurements of validation, and readings of the whole
    catalog between these.
    """

    steps: int
    measurements: int
    renewals: int
    epochs: int

    @classmethod
    def of(cls, n_batches: int, config: TrainConfig) -> Loop:
        """n_batches: of an epoch. An epoch that stands for all: renewals by steps of the whole run, in proportion."""
        steps = -(-n_batches // config.accumulate)
        n_evals = config.evals_per_epoch
        marks = {round(steps * (k + 1) / n_evals) for k in range(n_evals)} - {0}
        renewals = 0
        if config.renew_steps:
            renewals = sum(step % config.renew_steps == 0 and step not in marks for step in range(1, steps + 1))
        return cls(steps, len(marks), renewals, config.epochs)


@dataclass(frozen=True)
class Work:
    """What a split asks of each seed. refit: the loop that follows where `train.refit` is set. beside: the loops of the
    rows on ids alone.
    """

    split: SplitName
    seeds: int
    fit: Loop
    adapt: Loop
    refit: Loop | None
    beside: tuple[Loop, ...]
    n_valid: int
    n_test: int


def work_of(log: Log, config: FinetuneConfig, name: SplitName) -> Work:
    split, ties = make_split(name, log.interactions, log.n_users, log.n_items, config.split)
    valid, test = make_queries(split, VALID, ties), queries_of_test(split, ties, config.evaluation)

    def loop(part: Split, train: TrainConfig, model: ModelConfig = config.model) -> Loop:
        return Loop.of(n_batches(part, ties, model, train), train)

    return Work(
        name,
        len(config.seeds_of(name)),
        loop(split, config.train),
        loop(split, config.adapt),
        loop(split.refit(), config.train) if config.train.refit else None,
        tuple(loop(split, train, config.sasrec.model) for train in sasrecs(config).values()),
        min(len(valid), config.evaluation.max_valid_queries),
        len(test),
    )


def n_batches(split: Split, ties: Ties, model: ModelConfig, train: TrainConfig, seed: int = 0) -> int:
    """Of the first epoch, as the trainer draws it."""
    rng, windows = (
        np.random.default_rng((seed, 0)),
        training_windows(split.train, split.n_users, model.max_history, ties),
    )
    if model.targets_per_history is not None:
        windows = windows.thinned(model.targets_per_history, rng)
    return len(epoch_batches(windows, train.batch_targets, rng))
