"""Decide if adapted weights are kept, and describe the decision."""

from __future__ import annotations

from llmrec.evaluation.model_rows import ModelRow
from llmrec.training.checkpoints import Progress
from llmrec.training.task import FittedModel


def is_kept(progress: Progress) -> bool:
    """Return True if adaptation changed the weights that it left: some epoch was better than its start.

    Args:
        progress: Progress of the adaptation.

    Returns:
        True or False.
    """
    return progress.best_epoch > 0


def is_better(adapted: FittedModel, frozen: FittedModel) -> bool:
    """Return True if a model fitted on adapted vectors is better on validation than the one on frozen vectors.

    Args:
        adapted: Model on the vectors of the adapted backbone.
        frozen: Model on those of the backbone as it was.

    Returns:
        True or False.
    """
    return (adapted.calibrated_ndcg or 0.0) > (frozen.calibrated_ndcg or 0.0)


def describe_item_adaptation(
    row: ModelRow, progress: Progress, frozen: FittedModel, adapted: FittedModel | None
) -> str:
    """Describe in one sentence if a backbone adapted by items was kept, and why.

    Args:
        row: The adapted model.
        progress: Progress of the adaptation, whose history begins with step 0.
        frozen: Model on the vectors before.
        adapted: Model on the vectors after; None if no measurement was better than the start.

    Returns:
        The sentence.
    """
    start, *later = [point["held_out_items_ndcg"] for point in progress.history]
    if adapted is None:
        best = f"{max(later):.4f} at best" if later else "nothing"
        return (
            f"{row}: adapted weights dropped, NDCG@10 of held-out items {best} against {start:.4f} at its start; the "
            "frozen backbone is used."
        )
    decision = "kept" if is_better(adapted, frozen) else "dropped"
    return (
        f"{row}: adapted weights {decision}, validation NDCG@10 {adapted.calibrated_ndcg:.4f} against "
        f"{frozen.calibrated_ndcg:.4f} of the frozen backbone (held-out items: {progress.best:.4f} against {start:.4f})"
        f"{'.' if decision == 'kept' else '; the frozen backbone is used.'}"
    )


def describe_adaptation(row: ModelRow, progress: Progress) -> str:
    """Describe in one sentence if adapted weights were kept, and why.

    Args:
        row: The adapted model.
        progress: Progress of its adaptation, whose history begins with epoch 0.

    Returns:
        The sentence.
    """
    valid = {point["epoch"]: point["valid_ndcg"] for point in progress.history if "valid_ndcg" in point}
    if not valid:
        return f"{row}: adaptation skipped (adapt.epochs=0)."
    start = f"{valid[0.0]:.4f} at its start (epoch 0)" if 0.0 in valid else "an unknown start"
    if is_kept(progress):
        best = f"{valid[progress.best_epoch]:.4f} at epoch {progress.best_epoch:g}"
        return f"{row}: adapted weights kept, validation NDCG@10 {best} against {start}."
    best = f"{max(value for epoch, value in valid.items() if epoch):.4f} at best"
    return f"{row}: adapted weights dropped, validation NDCG@10 {best} against {start}; the frozen backbone is used."
