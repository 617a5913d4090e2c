"""From a split to a fitted model, in the two stages of transfer: stored text vectors first, then the backbone."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import math
import re
from collections.abc import Callable
from dataclasses import replace

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor

from llmrec.backbones.catalog_encoder import CatalogEncoder
from llmrec.config.model import ModelConfig
from llmrec.config.train import TrainConfig
from llmrec.data.batches import build_training_windows
from llmrec.data.histories import Queries
from llmrec.data.splits import Split
from llmrec.evaluation.metrics import ndcg_at
from llmrec.evaluation.model_scorer import ModelScorer
from llmrec.evaluation.ranking import Ranking, Scorer
from llmrec.models.recommender_model import RecommenderModel
from llmrec.models.weight_transfer import TransferWeights, load_transfer_weights
from llmrec.training.calibration import compute_new_item_logits, fit_novelty_bias, tune_text_similarity
from llmrec.training.checkpoints import Progress
from llmrec.training.distributed.collectives import is_fsdp_requested
from llmrec.training.distributed.parallel_ranking import rank_in_parallel, take_own_queries
from llmrec.training.micro_batching import BACKBONE, STEPS, explain_out_of_memory
from llmrec.training.objectives import Objective, RecommendationObjective
from llmrec.training.privacy.dp_trainer import DPObjective, DPTrainer, freeze_by_prefix, set_public_calibration
from llmrec.training.task import FittedModel, TrainingTask
from llmrec.training.trainer import Trainer, TrainerInputs
from llmrec.training.training_loop import RunState

logger = logging.getLogger(__name__)


def fit_model(
    name: str,
    task: TrainingTask,
    model_config: ModelConfig,
    config: TrainConfig,
    text: Tensor | None,
    seed: int,
    start: TransferWeights | None = None,
) -> FittedModel:
    """Feature transfer: fit the recommender's own layers on frozen text vectors (N, D_text), or on ids alone.

    start: weights of another domain to begin with.
    With `config.refit` the model has then been trained anew, for as long as the best epoch took, on train + validation.
    """
    validated = make_model(
        task.split, model_config, text, seed, start, task.reader, everything_known=bool(task.privacy)
    )
    if task.privacy:
        freeze_by_prefix(validated, task.privacy)
    objective = RecommendationObjective(validated)
    progress = train(name, task, objective, config, seed, lambda: validation_ndcg(task, ModelScorer(validated)))
    calibrate(task, validated)
    if text is not None and not task.privacy:
        calibrated = validation_ndcg(task, ModelScorer(validated))
        facts = {"fit": name, "calibrated": calibrated}
        logger.info("%s calibrated: valid ndcg@10 %.4f", name, calibrated, extra={"facts": facts})
    if not config.refit:
        return FittedModel(validated, validated, progress)
    longest = replace(config, epochs=max(math.ceil(progress.best_epoch), 1), patience=config.epochs + 1)
    refit = replace(task, split=task.split.merge_validation())
    model = make_model(refit.split, model_config, text, seed, start, task.reader)
    train(f"{name}-refit", refit, RecommendationObjective(model), longest, seed, None)
    model.copy_calibration(validated)  # this one has seen the validation targets
    return FittedModel(validated, model, progress)


def make_model(
    split: Split,
    config: ModelConfig,
    text: Tensor | None,
    seed: int,
    start: TransferWeights | None = None,
    reader: CatalogEncoder | None = None,
    everything_known: bool = False,
) -> RecommenderModel:
    """Untrained, on a text table of its own. everything_known: whichever items have training events."""
    torch.manual_seed(seed)
    known = torch.from_numpy(~split.cold_item_mask() | everything_known)
    model = RecommenderModel(config, known, None if text is None else text.clone(), reader)
    if start is not None:
        load_transfer_weights(model, start)
    return model


def adapt_backbone(
    name: str, task: TrainingTask, model: RecommenderModel, config: TrainConfig, reader: CatalogEncoder, seed: int
) -> Progress:
    """Parameter transfer: go on training a fitted model together with its backbone, and renew its text table.

    A model whose histories a backbone encodes has the reader's encode them from now on. The table's rows that a step
    reads are renewed by that step, the rest as often as `config.refresh_every_steps` says, and before each validation.
    """
    model.histories.attach_encoder(reader)
    if config.epochs == 0:
        return Progress(finished=True)
    with task.accelerator.main_process_first():
        reader = reader.with_hidden_state_cache()
    objective = (DPObjective if task.privacy else RecommendationObjective)(model, reader)

    def validate() -> float:
        calibrate(task, model)  # for what the backbone reads now, as was done for what it read before
        return validation_ndcg(task, ModelScorer(model))

    progress = train(name, task, objective, config, seed, validate, start=validate())
    calibrate(task, model)
    return progress


def rank_across_processes(
    task: TrainingTask, scorer: Scorer, queries: Queries, n_top: int, progress: str | None = None
) -> Ranking:
    """Rank all queries, each process its share; every process gets the whole ranking, in order."""
    n_items, accelerator = task.split.n_items, task.accelerator
    return rank_in_parallel(scorer, queries, n_items, accelerator, n_top, task.mask_seen, task.release_time, progress)


def calibrate(task: TrainingTask, model: RecommenderModel) -> None:
    """By the validation queries: how much nearness of texts counts, and what puts items without training events on the
    scale of the others, before that and after it.

    A model on ids alone knows nothing of such items, and is left as it is. Where users are private, so are these.
    """
    if task.privacy:
        set_public_calibration(model, task.privacy)
    if task.privacy or model.items.text is None:
        return
    if model.items.match is not None:
        model.items.match.set_parameters(0.0, 1.0)  # of an earlier calibration, on which this one must not depend
    _set_novelty(task, model)
    if model.items.match is not None:
        tune_text_similarity(model.items.match, model.items.text, lambda: validation_ndcg(task, ModelScorer(model)))
        _set_novelty(task, model)


def _set_novelty(task: TrainingTask, model: RecommenderModel) -> None:
    """Each process answers its share of the queries."""
    model.novelty.zero_()  # of an earlier calibration
    logits = compute_new_item_logits(model, take_own_queries(task.valid, task.accelerator), task.release_time)
    if task.accelerator.num_processes > 1:
        logits = torch.cat(gather_object([logits]))
    model.novelty.fill_(fit_novelty_bias(logits, task.split.cold_item_mask()[task.valid.target]))


def validation_ndcg(task: TrainingTask, scorer: Scorer) -> float:
    """NDCG@10 over the validation queries, the same number in every process."""
    return float(ndcg_at(rank_across_processes(task, scorer, task.valid, n_top=1).rank, 10).mean())


def train(
    name: str,
    task: TrainingTask,
    objective: Objective,
    config: TrainConfig,
    seed: int,
    validate: Callable[[], float] | None,
    start: float | None = None,
) -> Progress:
    """Train what trains in `objective` on the task's windows; the best weights by `validate`, or the last ones without
    it, stay in it.

    start: what validation gives as it is, if that is to be beaten.
    """
    if config.epochs == 0:
        return Progress(finished=True)
    model = objective.model
    windows = build_training_windows(task.split.train, task.split.n_users, model.config.max_history, task.ties)
    torch.manual_seed(seed + 1_000_003 * task.accelerator.process_index)  # dropout differs between processes
    depends_on = task.inputs if objective.backbone is None else f"{task.inputs} {objective.backbone.config}"
    identity = _checkpoint_identity(name, replace(task, inputs=depends_on), model.config, config, seed)
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


def _checkpoint_identity(name: str, task: TrainingTask, model: ModelConfig, train: TrainConfig, seed: int) -> str:
    facts = [name, task.split.name, task.ties, task.mask_seen, task.inputs, seed]
    trained = dataclasses.asdict(replace(train, refit=False))  # which comes after the fit
    del trained["micro_batches"]  # which change no result
    facts += [dataclasses.asdict(model), trained]
    facts += [dataclasses.asdict(task.privacy)] if task.privacy else []
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]
