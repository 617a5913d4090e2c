"""Metric of the validation queries, and the calibration of a model on them."""

from __future__ import annotations

import torch
from accelerate.utils import gather_object

from llmrec.data.histories import Queries
from llmrec.evaluation.metrics import ndcg_at
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
from llmrec.training.task import TrainingTask


def rank_across_processes(
    task: TrainingTask,
    scorer: Scorer,
    queries: Queries,
    n_top: int,
    *,
    alone: bool = False,
    progress: str | None = None,
) -> Ranking:
    """Rank all queries, divided among the processes, or by this one alone.

    Args:
        task: Training task.
        scorer: Scorer of the queries.
        queries: The Q queries.
        n_top: Top items to return per query.
        alone: Whether this process ranks all of them, for itself.
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
        progress=progress,
    )


def calibrate(task: TrainingTask, model: RecommenderModel) -> None:
    """Set the text-similarity strength and the new-item bias on validation queries.

    The bias is set before and after the strength. A model on ids alone cannot rank new items and stays unchanged. With
    differential privacy the validation queries are private too, so public settings are used instead.

    Args:
        task: Training task with the validation queries.
        model: Model to change in place.
    """
    if task.privacy:
        set_public_calibration(model, task.privacy)
    if task.privacy or model.items.text is None:
        return
    if model.items.match is not None:
        model.items.match.set_parameters(0.0, 1.0)  # must not depend on an earlier calibration
    _set_novelty(task, model)
    if model.items.match is not None:
        scorer = SimilarityScorer(model)
        tune_text_similarity(model.items.match, model.items.text, lambda: validation_ndcg(task, scorer))
        _set_novelty(task, model)


def _set_novelty(task: TrainingTask, model: RecommenderModel) -> None:
    """Set the new-item bias; each process scores its share of the queries."""
    model.novelty.zero_()  # must not depend on an earlier calibration
    logits = compute_new_item_logits(model, take_own_queries(task.valid, task.accelerator), available=task.release_time)
    if task.accelerator.num_processes > 1:
        logits = torch.cat(gather_object([logits]))
    model.novelty.fill_(fit_novelty_bias(logits, task.split.cold_item_mask()[task.valid.target]))


def validation_ndcg(task: TrainingTask, scorer: Scorer) -> float:
    """Compute NDCG@10 over the validation queries.

    Args:
        task: Training task with the validation queries.
        scorer: Scorer of the queries.

    Returns:
        The mean, the same number in every process.
    """
    return float(ndcg_at(rank_across_processes(task, scorer, task.valid, n_top=0).rank, 10).mean())
