"""A run says in one sentence if it kept the adapted weights, and why."""

from __future__ import annotations

import pytest

from llmrec.evaluation.model_rows import ModelRow
from llmrec.jobs.adaptation import describe_adaptation, is_kept
from llmrec.training.checkpoints import Progress

ROW = ModelRow("llmrec", "lora")


def make_progress(best_epoch: float, *measured: float) -> Progress:
    """Progress with a measurement of NDCG after each epoch, the first at its start."""
    history = [{"epoch": float(epoch), "valid_ndcg": value} for epoch, value in enumerate(measured)]
    return Progress(best_epoch=best_epoch, history=history)


@pytest.mark.parametrize(
    ("progress", "kept", "sentence"),
    [
        (
            make_progress(2.0, 0.05, 0.04, 0.06),
            True,
            "llmrec (LoRA): adapted weights kept, validation NDCG@10 0.0600 at epoch 2 against 0.0500 at its start "
            "(epoch 0).",
        ),
        (
            make_progress(0.0, 0.05, 0.04, 0.0499),
            False,
            "llmrec (LoRA): adapted weights dropped, validation NDCG@10 0.0499 at best against 0.0500 at its start "
            "(epoch 0); the frozen backbone is used.",
        ),
        (make_progress(0.0), False, "llmrec (LoRA): adaptation skipped (adapt.epochs=0)."),
    ],
)
def test_the_sentence_says_what_happened(progress: Progress, kept: bool, sentence: str) -> None:
    assert is_kept(progress) is kept
    assert describe_adaptation(ROW, progress) == sentence
