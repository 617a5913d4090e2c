"""Probe of a bundle: stored histories and scores that a loaded model must reproduce."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from llmrec.backbones.text_backbone import TextBackbone
from llmrec.data.histories import Histories, Queries
from llmrec.errors import BundleError
from llmrec.evaluation.model_scorer import ModelScorer
from llmrec.models.recommender_model import RecommenderModel

SECONDS_PER_DAY = 86_400
Facts = dict[str, str | None]  # package versions, dtype and the like
LENGTHS = (0, 1, 3, 8)
N_ITEMS = 5
# Other machines, threads and kernels sum in other orders. The effect on a score depends on cancellation in it, so it is
# measured by moving every weight by its last bit; differences by rounding are smaller than one such move.
LAST_BIT, DRAWS = 2.0**-23, 4
ALLOWED = 64  # such moves
N_TEXTS = 4
MIN_COSINE = 1 - 1e-4
MIN_COSINE_FAST = 1 - 1e-3  # of a catalog encoded in bf16; a few texts are always encoded in fp32


def make_probe(model: RecommenderModel) -> dict[str, Any]:
    """Make artificial histories, scores of their best items, and how far rounding moves these.

    Args:
        model: Trained model.

    Returns:
        Histories (item rows, one day apart), items, scores and rounding; no history is a user's own.
    """
    rng = np.random.default_rng(0)
    histories = [rng.integers(0, len(model.items.known), length).tolist() for length in LENGTHS]
    scores = _score_histories(model, histories)
    best = scores.topk(min(N_ITEMS, scores.shape[1]))
    rounding = measure_rounding(model, histories, best.indices).tolist()
    return {
        "histories": histories,
        "items": best.indices.tolist(),
        "scores": best.values.tolist(),
        "rounding": rounding,
    }


def check_probe(model: RecommenderModel, probe: dict[str, Any], recorded: Facts, present: Facts) -> None:
    """Check that a model reproduces the recorded scores.

    Args:
        model: Loaded model.
        probe: Recorded histories and scores.
        recorded: Facts about the environment of the bundle.
        present: Facts about this environment.

    Raises:
        BundleError: If the scores differ; the message says what else differs.
    """
    difference = score_difference(model, probe)
    if not difference <= ALLOWED:
        raise BundleError(
            f"bundle: does not reproduce its own scores (they differ by {difference:,.0f} times their rounding, "
            f"allowed {ALLOWED}); {describe_differences(recorded, present)}. Copy or download the bundle again."
        )


def score_difference(model: RecommenderModel, probe: dict[str, Any]) -> float:
    """Return the largest difference from the recorded scores, in units of their rounding.

    Args:
        model: Loaded model.
        probe: Recorded histories and scores.

    Returns:
        Difference.
    """
    scores = _score_histories(model, probe["histories"]).gather(1, torch.tensor(probe["items"]))
    difference = (scores - torch.tensor(probe["scores"])).abs().max(1).values
    return float((difference / torch.tensor(probe["rounding"])).max())


@torch.no_grad()
def measure_rounding(model: RecommenderModel, histories: list[list[int]], items: Tensor) -> Tensor:
    """Measure how far scores move when all weights and text vectors move by their last bit.

    Args:
        model: Trained model; it does not change.
        histories: Item rows of each history, B of them.
        items: Items to score, (B, K).

    Returns:
        Largest move of each history's scores, (B,).
    """
    numbers = [weight for weight in (*model.parameters(), *model.buffers()) if weight.is_floating_point()]
    scores = _score_histories(model, histories).gather(1, items)
    own, draw = [weight.clone() for weight in numbers], torch.Generator().manual_seed(0)
    moved = LAST_BIT * scores.abs().max(1).values.clamp(min=1e-6)
    try:
        for _ in range(DRAWS):
            for weight, saved in zip(numbers, own, strict=True):
                signs = torch.randint(0, 2, weight.shape, generator=draw).to(weight) * 2 - 1
                weight.copy_(saved * (1 + LAST_BIT * signs))
            moved = moved.maximum((_score_histories(model, histories).gather(1, items) - scores).abs().max(1).values)
    finally:
        for weight, saved in zip(numbers, own, strict=True):
            weight.copy_(saved)
    return moved


def check_encoding(
    model: RecommenderModel, backbone: TextBackbone, texts: list[str], recorded: Facts, *, present: Facts
) -> None:
    """Check that the backbone encodes the first items of the catalog as it did when the bundle was saved.

    Args:
        model: Loaded model.
        backbone: Loaded backbone.
        texts: Texts of the first items.
        recorded: Facts about the environment of the bundle.
        present: Facts about this environment.

    Raises:
        BundleError: If the vectors differ.
    """
    if model.items.text is None:
        return
    stored = model.items.text[: min(N_TEXTS, len(texts))].cpu()
    read = backbone.encode(backbone.tokenize(texts[: len(stored)]))
    cosine = float(torch.nn.functional.cosine_similarity(stored, read).min())
    if not cosine >= (MIN_COSINE_FAST if backbone.config.encode_precision == "auto" else MIN_COSINE):
        raise BundleError(
            f"backbone {backbone.path!r}: does not encode the catalog as the bundle's did (cosine {cosine:.5f}); "
            f"{describe_differences(recorded, present)}. Give the right one as backbone=."
        )


def _score_histories(model: RecommenderModel, histories: list[list[int]]) -> torch.Tensor:
    item = np.array([row for history in histories for row in history], dtype=np.int64)
    lengths = np.array([len(history) for history in histories])
    offset = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    time = (np.arange(len(item)) - np.repeat(offset[:-1], lengths)) * SECONDS_PER_DAY
    user = np.arange(len(histories))
    queries = Queries(
        Histories(item, time, offset, np.arange(len(item))),
        user,
        lengths * SECONDS_PER_DAY,
        user * 0,
        offset[:-1],
        offset[1:],
    )
    return ModelScorer(model).score(queries)


def list_dtypes(tensors: dict[str, Tensor]) -> str:
    """List the types of weights as stored in a file.

    Args:
        tensors: Weights by name.

    Returns:
        Names of the types, joined by commas.
    """
    return ", ".join(
        sorted({str(one.dtype).removeprefix("torch.") for one in tensors.values() if one.is_floating_point()})
    )


def describe_differences(recorded: Facts, present: Facts) -> str:
    """Describe where the environments of saving and loading differ, for a message.

    Args:
        recorded: Facts about the environment of the bundle.
        present: Facts about this environment.

    Returns:
        One line of text.
    """
    odd = [
        f"{name} {recorded[name] or 'unknown'} then, {present.get(name) or 'unknown'} now"
        for name in recorded
        if recorded[name] != present.get(name)
    ]
    return "; ".join(odd) if odd else f"{', '.join(recorded)} are the same, so weights or base model differ"
