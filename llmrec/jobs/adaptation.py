"""Decide if adapted weights are kept, and describe the decision."""

from __future__ import annotations

from llmrec.evaluation.model_rows import ModelRow
from llmrec.training.checkpoints import Progress


def is_kept(progress: Progress) -> bool:
    """Return True if adaptation changed the weights that it left: some epoch was better than its start.

    Args:
        progress: Progress of the adaptation.

    Returns:
        True or False.
    """
    return progress.best_epoch > 0


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
