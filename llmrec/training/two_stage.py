"""Fit a model in the two stages of transfer: first on stored text vectors, then together with the backbone."""

from __future__ import annotations

import dataclasses
import logging
import math
import re
from collections.abc import Callable
from dataclasses import replace

import torch
from accelerate import Accelerator
from torch import Tensor

from llmrec.backbones.catalog_encoder import CatalogEncoder
from llmrec.config.model import ModelConfig
from llmrec.config.train import TrainConfig
from llmrec.data.batches import build_training_windows
from llmrec.data.splits import Split
from llmrec.evaluation.model_scorer import ModelScorer
from llmrec.models.recommender_model import RecommenderModel
from llmrec.models.weight_transfer import TransferWeights, load_transfer_weights
from llmrec.training.checkpoints import Progress, compute_identity
from llmrec.training.distributed.collectives import is_fsdp_requested
from llmrec.training.micro_batching import BACKBONE, STEPS, explain_out_of_memory
from llmrec.training.model_validation import calibrate, set_repeat_rates, training_ndcg, validation_ndcg
from llmrec.training.objectives import Objective, RecommendationObjective
from llmrec.training.privacy.dp_trainer import DPObjective, DPTrainer, freeze_by_prefix
from llmrec.training.spectral_start import choose_ridge, fit_spectral_map
from llmrec.training.task import FittedModel, TrainingTask
from llmrec.training.trainer import Trainer, TrainerInputs
from llmrec.training.training_loop import RunState

logger = logging.getLogger(__name__)


def fit_model(
    name: str,
    task: TrainingTask,
    model_config: ModelConfig,
    config: TrainConfig,
    *,
    text: Tensor | None,
    seed: int,
    start: TransferWeights | None = None,
) -> FittedModel:
    """Fit the layers above the backbone on frozen text vectors, or on ids alone (feature transfer).

    With `config.refit` a second model is trained from scratch on train + validation, for as many epochs as was best.

    Args:
        name: Name of the fit in logs and checkpoints.
        task: Training task.
        model_config: Settings of the model.
        config: Settings of training.
        text: Text vectors, (N, D_text); None for ids alone.
        seed: Seed of the fit.
        start: Weights of another domain to begin with.

    Returns:
        The fitted models.
    """
    ridge = choose_ridge(name, task, model_config, text)
    validated = make_model(
        task.split,
        model_config,
        text,
        seed,
        start=start,
        reader=task.reader,
        everything_known=bool(task.privacy),
        ridge=ridge,
    )
    if task.privacy:
        freeze_by_prefix(validated, task.privacy)
    objective = RecommendationObjective(validated)
    progress = train(name, task, objective, config, seed=seed, validate=lambda: training_ndcg(task, validated))
    calibrate(task, validated)
    calibrated = None
    if text is not None and not task.privacy:
        calibrated = validation_ndcg(task, ModelScorer(validated))
        facts = {"fit": name, "calibrated": calibrated}
        logger.info("%s calibrated: valid ndcg@10 %.4f", name, calibrated, extra={"facts": facts})
    if not config.refit:
        return FittedModel(validated, validated, progress, calibrated)
    longest = replace(config, epochs=max(math.ceil(progress.best_epoch), 1), patience=config.epochs + 1)
    refit = replace(task, split=task.split.merge_validation())
    model = make_model(refit.split, model_config, text, seed, start=start, reader=task.reader, ridge=ridge)
    train(f"{name}-refit", refit, RecommendationObjective(model), longest, seed=seed, validate=None)
    model.copy_calibration(validated)  # the refitted model was trained on the validation targets
    if model.repeats:
        set_repeat_rates(model, refit.split)
    return FittedModel(validated, model, progress, calibrated)


def make_model(
    split: Split,
    config: ModelConfig,
    text: Tensor | None,
    seed: int,
    *,
    start: TransferWeights | None = None,
    reader: CatalogEncoder | None = None,
    everything_known: bool = False,
    ridge: float | None = None,
) -> RecommenderModel:
    """Make an untrained model with its own table of text vectors.

    Args:
        split: Split whose training part defines the known items.
        config: Settings of the model.
        text: Text vectors, (N, D_text), copied; None for ids alone.
        seed: Seed of the initial weights.
        start: Weights of another domain to begin with.
        reader: Backbone that encodes histories, if one does.
        everything_known: True to treat all items as known, with or without training events.
        ridge: Ridge of the spectral map that the adaptor starts as; None for no map.

    Returns:
        The model.
    """
    torch.manual_seed(seed)
    known = torch.from_numpy(~split.cold_item_mask() | everything_known)
    spectral = fit_spectral_map(split, text, ridge)
    own = None if text is None else text.clone()
    model = RecommenderModel(config, known, own, reader=reader, spectral=spectral)
    if start is not None:
        load_transfer_weights(model, start)
    return model


def adapt_backbone(
    name: str,
    task: TrainingTask,
    model: RecommenderModel,
    config: TrainConfig,
    *,
    reader: CatalogEncoder,
    seed: int,
    start: float | None = None,
) -> Progress:
    """Continue to train a fitted model together with its backbone (parameter transfer).

    A model whose histories a backbone encodes uses the backbone of the reader from now on. A step updates the text
    vectors of the rows it encodes; all others follow every `config.refresh_every_steps` steps and before each
    validation.

    Args:
        name: Name of the fit in logs and checkpoints.
        task: Training task.
        model: Fitted model; trained in place.
        config: Settings of training.
        reader: Encoder of the catalog; its backbone is trained in place.
        seed: Seed of the fit.
        start: Validation NDCG@10 of the model as it is, calibrated; None to calibrate it and compute it.

    Returns:
        The progress.
    """
    model.histories.attach_encoder(reader)
    if config.epochs == 0:
        return Progress(finished=True)
    with task.accelerator.main_process_first():
        reader = reader.with_hidden_state_cache()
    objective = (DPObjective if task.privacy else RecommendationObjective)(model, reader)

    is_calibrated = False

    def validate() -> float:
        nonlocal is_calibrated
        calibrate(task, model)  # for the current text vectors, as before for the previous ones
        is_calibrated = True
        return validation_ndcg(task, ModelScorer(model))

    start = validate() if start is None else start
    is_calibrated = False  # for the weights that training ends with
    progress = train(name, task, objective, config, seed=seed, validate=validate, start=start)
    if not (is_calibrated and progress.ends_at_best):  # a resumed run may take no measurement of its own
        calibrate(task, model)
    return progress


def train(
    name: str,
    task: TrainingTask,
    objective: Objective,
    config: TrainConfig,
    *,
    seed: int,
    validate: Callable[[], float] | None,
    start: float | None = None,
) -> Progress:
    """Train the trainable weights of an objective on the windows of a task.

    Args:
        name: Name of the fit in logs and checkpoints.
        task: Training task.
        objective: Objective; it keeps the best weights by `validate`, or the last ones without it.
        config: Settings of training.
        seed: Seed of the fit.
        validate: Computes NDCG@10 of the current weights; None for no validation.
        start: Result of validation before training, if training must exceed it.

    Returns:
        The progress.

    Raises:
        MemoryLimitError: If a batch does not fit in memory.
    """
    if config.epochs == 0:
        return Progress(finished=True)
    model = objective.model
    windows = build_training_windows(task.split.train, task.split.n_users, model.config.max_history, task.ties)
    torch.manual_seed(seed + 1_000_003 * task.accelerator.process_index)  # dropout differs between processes
    depends_on = task.inputs if objective.backbone is None else f"{task.inputs} {objective.backbone.config}"
    identity = _checkpoint_identity(name, replace(task, inputs=depends_on), model.config, config, seed=seed)
    place = re.sub(r"[^\w.]+", "-", f"{task.split.name} {name} {seed}")
    run = RunState(name, task.folder / "checkpoints" / place, seed, task.resume, identity, task.checkpoints)
    with explain_out_of_memory(STEPS if objective.backbone is None else f"{STEPS}; {BACKBONE}"):
        inputs = TrainerInputs(objective, windows, validate, config, task.accelerator, run, start)
        if task.privacy:
            trainer: Trainer = DPTrainer(inputs, task.privacy)
        else:
            trainer = _choose_trainer(objective, task.accelerator)(inputs)
        progress = trainer.fit()
    task.accelerator.free_memory()
    return progress


def _choose_trainer(objective: Objective, accelerator: Accelerator) -> type[Trainer]:
    if objective.backbone is None or accelerator.num_processes == 1 or not is_fsdp_requested():
        return Trainer
    from llmrec.training.sharded_trainer import ShardedTrainer  # its imports take a while

    return ShardedTrainer


def _checkpoint_identity(name: str, task: TrainingTask, model: ModelConfig, train: TrainConfig, *, seed: int) -> str:
    facts = [name, task.split.name, task.ties, task.mask_seen, task.inputs, seed]
    trained = dataclasses.asdict(replace(train, refit=False))  # the refit comes after this fit
    del trained["micro_batches"]  # they change no result
    facts += [dataclasses.asdict(model), trained]
    facts += [dataclasses.asdict(task.privacy)] if task.privacy else []
    return compute_identity(facts)
