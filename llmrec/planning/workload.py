"""How often a run does what: pure arithmetic on a log and a configuration, before anything is trained."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from llmrec.config.jobs.finetune import FinetuneConfig
from llmrec.config.model import ModelConfig
from llmrec.config.split import SplitName
from llmrec.config.train import TrainConfig
from llmrec.data.batches import build_epoch_batches, build_training_windows
from llmrec.data.histories import make_queries
from llmrec.data.interactions import Ties
from llmrec.data.log import Log
from llmrec.data.splits import VALID, Split, make_split
from llmrec.evaluation.aggregate import make_test_queries
from llmrec.training.task import sasrec_train_configs


@dataclass(frozen=True)
class LoopCounts:
    """One run of the training loop, in an epoch: optimizer steps, measurements of validation, and readings of the whole
    catalog between these.
    """

    steps: int
    measurements: int
    renewals: int
    epochs: int

    @classmethod
    def from_config(cls, n_batches: int, config: TrainConfig) -> LoopCounts:
        """n_batches: of an epoch. An epoch that stands for all: renewals by steps of the whole run, in proportion."""
        steps = -(-n_batches // config.accumulate)
        n_evals = config.evals_per_epoch
        marks = {round(steps * (k + 1) / n_evals) for k in range(n_evals)} - {0}
        renewals = 0
        if config.renew_steps:
            renewals = sum(step % config.renew_steps == 0 and step not in marks for step in range(1, steps + 1))
        return cls(steps, len(marks), renewals, config.epochs)


@dataclass(frozen=True)
class Workload:
    """What a split asks of each seed. refit: the loop that follows where `train.refit` is set. beside: the loops of the
    rows on ids alone.
    """

    split: SplitName
    seeds: int
    fit: LoopCounts
    adapt: LoopCounts
    refit: LoopCounts | None
    beside: tuple[LoopCounts, ...]
    n_valid: int
    n_test: int


def count_work(log: Log, config: FinetuneConfig, name: SplitName) -> Workload:
    split, ties = make_split(name, log.interactions, log.n_users, log.n_items, config.split)
    valid, test = make_queries(split, VALID, ties), make_test_queries(split, ties, config.evaluation)

    def count_loop(part: Split, train: TrainConfig, model: ModelConfig = config.model) -> LoopCounts:
        return LoopCounts.from_config(count_batches(part, ties, model, train), train)

    return Workload(
        name,
        len(config.seeds_for_split(name)),
        count_loop(split, config.train),
        count_loop(split, config.adapt),
        count_loop(split.merge_validation(), config.train) if config.train.refit else None,
        tuple(count_loop(split, train, config.sasrec.model) for train in sasrec_train_configs(config).values()),
        min(len(valid), config.evaluation.max_valid_queries),
        len(test),
    )


def count_batches(split: Split, ties: Ties, model: ModelConfig, train: TrainConfig, seed: int = 0) -> int:
    """Of the first epoch, as the trainer draws it."""
    rng, windows = (
        np.random.default_rng((seed, 0)),
        build_training_windows(split.train, split.n_users, model.max_history, ties),
    )
    if model.targets_per_history is not None:
        windows = windows.subsample_targets(model.targets_per_history, rng)
    return len(build_epoch_batches(windows, train.batch_targets, rng))
