"""Metric of the validation queries, and the calibration of a model on them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from accelerate.utils import gather_object

from llmrec.data.histories import Queries
from llmrec.data.repeats import count_repeats
from llmrec.data.splits import Split
from llmrec.evaluation.metrics import ndcg_at
from llmrec.evaluation.model_scorer import ModelScorer
from llmrec.evaluation.ranking import Ranking, Scorer
from llmrec.models.recommender_model import RecommenderModel
from llmrec.training.calibration import (
    SimilarityScorer,
    compute_new_item_logits,
    fit_novelty_bias,
    tune_text_similarity,
)
from llmrec.training.distributed.parallel_ranking import rank_in_parallel, take_own_queries
from llmrec.training.privacy.dp_trainer import set_public_calibration
from llmrec.training.repeat_fit import collect_evidence, fit_repeat_bias, join_evidence
from llmrec.training.task import TrainingTask
from llmrec.utils.arrays import Mask


def rank_across_processes(
    task: TrainingTask,
    scorer: Scorer,
    queries: Queries,
    n_top: int,
    *,
    alone: bool = False,
    pool: Mask | None = None,
    progress: str | None = None,
) -> Ranking:
    """Rank all queries, divided among the processes, or by this one alone.

    Args:
        task: Training task.
        scorer: Scorer of the queries.
        queries: The Q queries.
        n_top: Top items to return per query.
        alone: Whether this process ranks all of them, for itself.
        pool: Items among which targets in it are also ranked by themselves, (N,); None for none.
        progress: Title of the progress bar; None for no bar.

    Returns:
        The whole ranking in the order of the queries, in every process.
    """
    return rank_in_parallel(
        scorer,
        queries,
        task.split.n_items,
        None if alone else task.accelerator,
        n_top=n_top,
        mask_seen=task.mask_seen,
        available=task.release_time,
        pool=pool,
        progress=progress,
    )


def calibrate(task: TrainingTask, model: RecommenderModel) -> None:
    """Set text similarity, the bias of new items and that of items of the history on validation queries.

    The bias of new items is set before and after the strength of text similarity; a model on ids alone has neither.
    Items of the history are weighed last, where rankings keep them. With differential privacy the validation queries
    are private too, so public settings are used instead.

    Args:
        task: Training task with the validation queries.
        model: Model to change in place.
    """
    if task.privacy:
        set_public_calibration(model, task.privacy)
        return
    if model.repeats is not None:
        model.repeats.set_weights(torch.zeros_like(model.repeats.weights))  # must not depend on an earlier calibration
    if model.items.text is not None:
        _calibrate_text(without_repeats(task) if weighs_repeats(task, model) else task, model)
    if weighs_repeats(task, model):
        set_repeat_rates(model, task.split)
        _set_repeats(task, model)
        if model.items.text is not None:  # items of the history had a share that they have no more
            _set_novelty(task, model)
            _set_repeats(task, model)


def weighs_repeats(task: TrainingTask, model: RecommenderModel) -> bool:
    """Return whether calibration weighs items of the history.

    Args:
        task: Training task.
        model: The model.

    Returns:
        True if the model can, and rankings keep these items.
    """
    return model.repeats is not None and not task.mask_seen and not task.privacy


def without_repeats(task: TrainingTask) -> TrainingTask:
    """Return the task of ranking items that users did not have yet.

    Args:
        task: Training task that ranks all items.

    Returns:
        The task without validation queries for items of the history, which it masks.
    """
    query, item = task.valid.list_seen_pairs()
    repeated = np.zeros(len(task.valid), dtype=np.bool_)
    repeated[query[item == task.valid.target[query]]] = True
    return replace(task, valid=task.valid if repeated.all() else task.valid.take(~repeated), mask_seen=True)


def set_repeat_rates(model: RecommenderModel, split: Split) -> None:
    """Set how often each item is taken again.

    Args:
        model: Model to change in place.
        split: Split whose training part counts.
    """
    if model.repeats is not None:
        model.repeats.set_rates(*count_repeats(split.train, split.n_items))


def _calibrate_text(task: TrainingTask, model: RecommenderModel) -> None:
    if model.items.match is not None:
        model.items.match.set_parameters(0.0, 1.0)  # must not depend on an earlier calibration
    _set_novelty(task, model)
    if model.items.match is not None and model.items.text is not None:
        scorer = SimilarityScorer(model)
        tune_text_similarity(model.items.match, model.items.text, lambda: validation_ndcg(task, scorer))
        _set_novelty(task, model)


def _set_repeats(task: TrainingTask, model: RecommenderModel) -> None:
    """Weigh items of the history; each process scores its share of the queries."""
    if model.repeats is None:
        return
    model.repeats.set_weights(torch.zeros_like(model.repeats.weights))
    evidence = collect_evidence(model, take_own_queries(task.valid, task.accelerator), available=task.release_time)
    if task.accelerator.num_processes > 1:
        evidence = join_evidence(gather_object([evidence]))
    fit_repeat_bias(model.repeats, evidence)


def _set_novelty(task: TrainingTask, model: RecommenderModel) -> None:
    """Set the new-item bias; each process scores its share of the queries."""
    model.novelty.zero_()  # must not depend on an earlier calibration
    logits = compute_new_item_logits(model, take_own_queries(task.valid, task.accelerator), available=task.release_time)
    if task.accelerator.num_processes > 1:
        logits = torch.cat(gather_object([logits]))
    model.novelty.fill_(fit_novelty_bias(logits, task.split.cold_item_mask()[task.valid.target]))


def training_ndcg(task: TrainingTask, model: RecommenderModel) -> float:
    """Compute NDCG@10 over the validation queries of a model that is not calibrated yet.

    Args:
        task: Training task with the validation queries.
        model: The model.

    Returns:
        The mean, of items that users did not have yet if calibration weighs the others.
    """
    return validation_ndcg(without_repeats(task) if weighs_repeats(task, model) else task, ModelScorer(model))


def validation_ndcg(task: TrainingTask, scorer: Scorer) -> float:
    """Compute NDCG@10 over the validation queries.

    Args:
        task: Training task with the validation queries.
        scorer: Scorer of the queries.

    Returns:
        The mean, the same number in every process.
    """
    return float(ndcg_at(rank_across_processes(task, scorer, task.valid, n_top=0).rank, 10).mean())
