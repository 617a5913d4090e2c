"""A few questions and their answers, kept in the bundle: a loaded model has to answer them alike."""

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
# Other machines, threads and kernels sum in other orders. How far that may move a score depends on what cancels in it,
# so it is found by moving every weight by its last bit; honest differences come to less than one such move.
LAST_BIT, DRAWS = 2.0**-23, 4
ALLOWED = 64  # such moves
N_TEXTS = 4
MIN_COSINE = 1 - 1e-4
MIN_COSINE_FAST = 1 - 1e-3  # of a catalog read in bf16; a few texts are always read exactly


def make_probe(model: RecommenderModel) -> dict[str, Any]:
    """Return made-up histories (item rows, a day apart), scores of their best items, and how far rounding moves these.

    No history is a user's own.
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
    """Raise BundleError where the model's scores are not the recorded ones, and say what else differs."""
    difference = score_difference(model, probe)
    if not difference <= ALLOWED:
        raise BundleError(
            f"the bundle does not reproduce its own scores (they differ by {difference:,.0f} times what rounding moves "
            f"them by, allowed {ALLOWED}); {describe_differences(recorded, present)}"
        )


def score_difference(model: RecommenderModel, probe: dict[str, Any]) -> float:
    """Return the largest difference between the model's scores and the recorded ones, in units of their rounding."""
    scores = _score_histories(model, probe["histories"]).gather(1, torch.tensor(probe["items"]))
    difference = (scores - torch.tensor(probe["scores"])).abs().max(1).values
    return float((difference / torch.tensor(probe["rounding"])).max())


@torch.no_grad()
def measure_rounding(model: RecommenderModel, histories: list[list[int]], items: Tensor) -> Tensor:
    """Return the largest move of each history's scores, (B,), when all weights and text vectors move by their last bit.

    items: (B, K) whose scores are looked at. The model is left as it was.
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
    model: RecommenderModel, backbone: TextBackbone, texts: list[str], recorded: Facts, present: Facts
) -> None:
    """Raises BundleError where the backbone does not read the first items of the catalog as it did when saved."""
    if model.items.text is None:
        return
    stored = model.items.text[: min(N_TEXTS, len(texts))].cpu()
    read = backbone.encode(backbone.tokenize(texts[: len(stored)]))
    cosine = float(torch.nn.functional.cosine_similarity(stored, read).min())
    if not cosine >= (MIN_COSINE_FAST if backbone.config.encode_precision == "auto" else MIN_COSINE):
        raise BundleError(
            f"backbone {backbone.path!r} does not read the catalog as the bundle's did (cosine {cosine:.5f}); "
            f"{describe_differences(recorded, present)}"
        )


def _score_histories(model: RecommenderModel, histories: list[list[int]]) -> torch.Tensor:
    item = np.array([row for history in histories for row in history], dtype=np.int64)
    lengths = np.array([len(history) for history in histories])
    offset = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    time = (np.arange(len(item)) - np.repeat(offset[:-1], lengths)) * SECONDS_PER_DAY
    user = np.arange(len(histories))
    asked = Queries(
        Histories(item, time, offset, np.arange(len(item))),
        user,
        lengths * SECONDS_PER_DAY,
        user * 0,
        offset[:-1],
        offset[1:],
    )
    return ModelScorer(model).score(asked)


def list_dtypes(tensors: dict[str, Tensor]) -> str:
    """Of weights as they lie in a file; a model that is made of them has its own."""
    return ", ".join(
        sorted({str(one.dtype).removeprefix("torch.") for one in tensors.values() if one.is_floating_point()})
    )


def describe_differences(recorded: Facts, present: Facts) -> str:
    """What a bundle was made with and what it is read with, where the two differ; for a message."""
    odd = [
        f"{name} {recorded[name] or 'unknown'} then, {present.get(name) or 'unknown'} now"
        for name in recorded
        if recorded[name] != present.get(name)
    ]
    return "; ".join(odd) if odd else f"{', '.join(recorded)} are the same, so weights or base model differ"
