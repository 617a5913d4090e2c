"""Number of steps, validations and epochs of a run, computed from a log and a configuration."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from llmrec.config.adaptation import ItemAdaptConfig
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
    """Counts of a training loop for one epoch."""

    steps: int
    """Number of steps of the optimizer."""
    measurements: int
    """Number of validations."""
    renewals: int
    """Number of times the whole catalog is encoded between validations."""
    epochs: int
    """Maximum number of epochs."""

    @classmethod
    def from_config(cls, n_batches: int, config: TrainConfig) -> LoopCounts:
        """Count the steps of an epoch; renewals of the whole run are attributed in proportion.

        Args:
            n_batches: Number of batches of an epoch.
            config: Settings of training.

        Returns:
            The counts.
        """
        steps = -(-n_batches // config.gradient_accumulation_steps)
        n_evals = config.evals_per_epoch
        marks = {round(steps * (k + 1) / n_evals) for k in range(n_evals)} - {0}
        renewals = 0
        if config.refresh_every_steps:
            renewals = sum(step % config.refresh_every_steps == 0 and step not in marks for step in range(1, steps + 1))
        return cls(steps, len(marks), renewals, config.epochs)

    @classmethod
    def from_items(cls, n_items: int, config: ItemAdaptConfig) -> LoopCounts:
        """Count the steps of an adaptation by items, which is one pass.

        Args:
            n_items: Items with training events.
            config: Settings of the adaptation.

        Returns:
            The counts.
        """
        return cls(max(round(config.epochs * n_items / config.items_per_step), 1), config.evals, 0, 1)


@dataclass(frozen=True)
class Workload:
    """Work of each seed on a split."""

    split: SplitName
    """Name of the split."""
    seeds: int
    """Number of seeds."""
    fit: LoopCounts
    """Loop of the first stage."""
    adapt: LoopCounts
    """Loop of the second stage."""
    refit: LoopCounts | None
    """Loop that follows if `train.refit` is set; None otherwise."""
    sasrec: tuple[LoopCounts, ...]
    """Loops of the baselines on ids only."""
    n_valid: int
    """Number of validation queries."""
    n_test: int
    """Number of test queries."""
    by_items: bool = False
    """True if the second stage is an adaptation by items, after which the model is fitted again."""


def count_work(log: Log, config: FinetuneConfig, name: SplitName) -> Workload:
    """Count the work of a run on a split.

    Args:
        log: The log.
        config: Settings of the run.
        name: Name of the split.

    Returns:
        The workload.
    """
    split, ties = make_split(name, log.interactions, log.n_users, log.n_items, config=config.split)
    valid, test = make_queries(split, VALID, ties=ties), make_test_queries(split, ties, config.evaluation)

    items = config.adapt_items
    n_items = len(np.unique(split.train.item))

    def count_loop(part: Split, train: TrainConfig, *, model: ModelConfig = config.model) -> LoopCounts:
        return LoopCounts.from_config(count_batches(part, ties, model, train), train)

    return Workload(
        name,
        len(config.seeds_for_split(name)),
        count_loop(split, config.train),
        count_loop(split, config.adapt) if items is None else LoopCounts.from_items(n_items, items),
        count_loop(split.merge_validation(), config.train) if config.train.refit else None,
        tuple(count_loop(split, train, model=config.sasrec.model) for train in sasrec_train_configs(config).values()),
        min(len(valid), config.evaluation.max_valid_queries),
        len(test),
        items is not None,
    )


def count_batches(split: Split, ties: Ties, model: ModelConfig, train: TrainConfig, *, seed: int = 0) -> int:
    """Count the batches of the first epoch, as the trainer draws them.

    Args:
        split: Split of the log.
        ties: Rule for events of the same time.
        model: Settings of the model.
        train: Settings of training.
        seed: Seed of the draw.

    Returns:
        Number of batches.
    """
    rng, windows = (
        np.random.default_rng((seed, 0)),
        build_training_windows(split.train, split.n_users, model.max_history, ties),
    )
    if model.targets_per_history is not None:
        windows = windows.subsample_targets(model.targets_per_history, rng)
    return len(build_epoch_batches(windows, train.batch_targets, rng))
