"""Inputs and results of a fit."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from accelerate import Accelerator

from llmrec.backbones.catalog_encoder import CatalogEncoder
from llmrec.config.checkpoints import CheckpointConfig, Resume
from llmrec.config.jobs.finetune import FinetuneConfig
from llmrec.config.split import SplitConfig, SplitName
from llmrec.config.train import TrainConfig
from llmrec.data.histories import Queries, make_queries
from llmrec.data.interactions import Ties
from llmrec.data.log import Log
from llmrec.data.splits import VALID, Split, make_split
from llmrec.evaluation.ranking import sample_queries
from llmrec.evaluation.results import Protocol
from llmrec.models.recommender_model import RecommenderModel
from llmrec.training.checkpoints import Progress
from llmrec.training.privacy.accounting import NoiseMechanism
from llmrec.utils.arrays import Rows

SAMPLED_NEGATIVES = 256  # of the `sasrec_sampled` row, as in the published re-runs


def make_protocol(split: Split, ties: Ties, config: FinetuneConfig, *, release_dates: bool) -> Protocol:
    """Make the protocol of an evaluation.

    Args:
        split: Split of the log.
        ties: Rule for events with equal times.
        config: Settings of the run.
        release_dates: True if the catalog has release dates.

    Returns:
        The protocol.
    """
    return Protocol(
        n_items=split.n_items,
        ties=ties,
        query_time=config.model.query_time,
        mask_seen=config.evaluation.masks_seen(config.data),
        fitted_on="train+validation" if config.train.refit else "train",
        release_dates=release_dates,
        first_days=config.evaluation.first_days if split.name == "by_time" else None,
    )


def make_task(
    name: SplitName, log: Log, config: FinetuneConfig, accelerator: Accelerator, *, reader: CatalogEncoder | None = None
) -> TrainingTask:
    """Make the training task of a split, with the queries for early stopping.

    Args:
        name: Name of the split.
        log: Validated log and catalog.
        config: Settings of the run.
        accelerator: Processes of the run.
        reader: Frozen backbone that encodes histories, if one does.

    Returns:
        The task.
    """
    split, ties = make_split(name, log.interactions, log.n_users, log.n_items, config=config.split)
    valid = sample_queries(make_queries(split, VALID, ties=ties), config.evaluation.max_valid_queries)
    fractions = config.split.valid_fraction, config.split.test_fraction
    backbone = config.backbone.without_adaptation()
    inputs = f"{log.facts.fingerprint} {fractions} {config.evaluation.max_valid_queries} {backbone}"
    inputs += f" {config.split.held_out_user_fraction}" if config.split.held_out_user_fraction else ""
    inputs += f" {_list_draws(config.split)}" if name == "item_cold" else ""
    return TrainingTask(
        split,
        valid,
        ties,
        config.evaluation.masks_seen(config.data),
        accelerator,
        config.output,
        inputs,
        config.resume,
        log.catalog.release_time,
        reader,
        config.checkpoints,
        NoiseMechanism.from_config(config, split),
    )


def _list_draws(config: SplitConfig) -> tuple[float, ...]:
    """Return the settings that decide on the items and queries of item_cold."""
    shares = config.item_cold_fraction, config.item_cold_valid_fraction
    return config.seed, *shares, config.item_cold_last_events


def sasrec_train_configs(config: FinetuneConfig) -> dict[str, TrainConfig]:
    """Return the training settings of the baselines on ids alone.

    Args:
        config: Settings of the run.

    Returns:
        Settings by name of the baseline, for those that the run evaluates.
    """
    trains = {"sasrec": config.sasrec.train}
    trains["sasrec_sampled"] = replace(config.sasrec.train, negatives=SAMPLED_NEGATIVES)
    return {name: train for name, train in trains.items() if name in config.evaluation.baselines}


@dataclass(frozen=True)
class TrainingTask:
    """Inputs of a fit, without its own settings."""

    split: Split
    """Split of the log."""
    valid: Queries
    """Queries for early stopping."""
    ties: Ties
    """Rule for events with equal times."""
    mask_seen: bool
    """True to exclude items that a user has seen from the ranking."""
    accelerator: Accelerator
    """Processes of the run."""
    folder: Path
    """Output folder; checkpoints are written into it."""
    inputs: str
    """Other facts that a fit depends on (log, split, backbone); part of the identity of its checkpoints."""
    resume: Resume = False
    """Resume from the newest checkpoint."""
    release_time: Rows | None = None
    """Release times in seconds, (N,), if the catalog has them."""
    reader: CatalogEncoder | None = None
    """Frozen backbone that encodes histories, if one does."""
    checkpoints: CheckpointConfig = field(default_factory=CheckpointConfig)
    """Settings of checkpoints."""
    privacy: NoiseMechanism | None = None
    """Noise of a differentially private fit; None if it is not private."""


@dataclass(frozen=True)
class FittedModel:
    """Result of a fit."""

    watched: RecommenderModel
    """Model fitted on the training part alone, which the validation window can judge."""
    model: RecommenderModel
    """The same model, or one refitted from scratch on train + validation."""
    progress: Progress
    """Progress of the fit of `watched`."""
    calibrated_ndcg: float | None = None
    """Validation NDCG@10 of `watched` after its calibration; None if it has no text, or with privacy."""
