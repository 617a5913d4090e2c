"""What a fit is given, and what it gives."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from accelerate import Accelerator

from llmrec.backbones.catalog_encoder import CatalogEncoder
from llmrec.config.checkpoints import CheckpointConfig, Resume
from llmrec.config.jobs.finetune import FinetuneConfig
from llmrec.config.split import SplitName
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


def make_protocol(split: Split, ties: Ties, config: FinetuneConfig, release_dates: bool) -> Protocol:
    return Protocol(
        n_items=split.n_items,
        ties=ties,
        query_time=config.model.query_time,
        mask_seen=config.evaluation.mask_seen,
        fitted_on="train+validation" if config.train.refit else "train",
        release_dates=release_dates,
        first_days=config.evaluation.first_days if split.name == "by_time" else None,
    )


def make_task(
    name: SplitName, log: Log, config: FinetuneConfig, accelerator: Accelerator, reader: CatalogEncoder | None = None
) -> TrainingTask:
    """The split `name` of the log with the queries that early stopping looks at. reader: see `TrainingTask`."""
    split, ties = make_split(name, log.interactions, log.n_users, log.n_items, config.split)
    valid = sample_queries(make_queries(split, VALID, ties), config.evaluation.max_valid_queries)
    fractions = config.split.valid_fraction, config.split.test_fraction
    backbone = config.backbone.without_adaptation()
    inputs = f"{log.facts.fingerprint} {fractions} {config.evaluation.max_valid_queries} {backbone}"
    inputs += f" {config.split.held_out_user_fraction}" if config.split.held_out_user_fraction else ""
    return TrainingTask(
        split,
        valid,
        ties,
        config.evaluation.mask_seen,
        accelerator,
        config.output,
        inputs,
        config.resume,
        log.catalog.release_time,
        reader,
        config.checkpoints,
        NoiseMechanism.from_config(config, split),
    )


def sasrec_train_configs(config: FinetuneConfig) -> dict[str, TrainConfig]:
    """Rows on ids alone by the same trainer, and how each is trained."""
    trains = {"sasrec": config.sasrec.train}
    trains["sasrec_sampled"] = replace(config.sasrec.train, negatives=SAMPLED_NEGATIVES)
    return {name: train for name, train in trains.items() if name in config.evaluation.baselines}


@dataclass(frozen=True)
class TrainingTask:
    """What a fit is given besides its own configuration.

    valid: the queries that early stopping looks at. inputs: what else a fit depends on (log, split, backbone), by which
    a checkpoint is known to belong to it. release_time: (N,) release times, where the catalog gives them. reader: the
    frozen backbone, where it encodes histories. privacy: of the users, where the fit is to be differentially private.
    """

    split: Split
    valid: Queries
    ties: Ties
    mask_seen: bool
    accelerator: Accelerator
    folder: Path
    inputs: str
    resume: Resume = False
    release_time: Rows | None = None
    reader: CatalogEncoder | None = None
    checkpoints: CheckpointConfig = field(default_factory=CheckpointConfig)
    privacy: NoiseMechanism | None = None


@dataclass(frozen=True)
class FittedModel:
    """watched: fitted on the training part alone, and so one that the validation window can judge. model: the same, or
    fitted anew on train + validation. progress: of the watched one.
    """

    watched: RecommenderModel
    model: RecommenderModel
    progress: Progress
