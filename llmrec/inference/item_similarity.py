"""Items that lie near to each other: by what is written of them, or by how a model has learned to see them.

Text vectors are compared less the mean of their own catalog (`ServedCatalog.center`): between two catalogs it would be
most of what tells their items apart.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional

from llmrec.errors import ConfigError
from llmrec.hub.bundle import Bundle, StoredWeights
from llmrec.inference.queries import Item
from llmrec.inference.served_catalog import ServedCatalog

SimilaritySpace = Literal["text", "model"]
READING = ("pooling", "prompt", "max_tokens")  # settings that a backbone's fingerprint holds beside its weights


def cosine_matrix(vectors: Tensor, others: Tensor) -> Tensor:
    """(B, D), (N, D) -> (B, N)."""
    return functional.normalize(vectors, dim=1) @ functional.normalize(others, dim=1).T


def item_similarities(of: SimilaritySpace, item: Item, own: ServedCatalog, others: ServedCatalog) -> Tensor:
    """(N,) cosine of an item with every item of the catalog of `others`, which may be `own`.

    Raises:
        ConfigError: an unknown space, the models of two bundles, or text that different backbones read.
        DataError: an unknown id. BundleError: text, and a bundle on ids alone.
    """
    if of not in get_args(SimilaritySpace):
        raise ConfigError(f"of={of!r}: text or model")
    if others is not own and of == "model":
        raise ConfigError("of=model: the models of two bundles see items in spaces of their own; compare them by text")
    if of == "model":
        return cosine_matrix(own.scoring_vectors([item])[0], own.scorer.scoring_items)[0]
    if others is not own:
        check_same_encoder(own.bundle, others.bundle)
    return cosine_matrix(own.center(own.text_vectors([item])), others.center(others.text))[0]


def check_same_encoder(one: Bundle, other: Bundle) -> None:
    """Whether two bundles' text vectors lie in one space: the same base model, and the same training of it or none.

    Raises:
        ConfigError: they do not, or one of the bundles has no text vectors.
    """
    if one.base is None or other.base is None:
        raise ConfigError("other: a bundle on ids alone has no text to compare; give two that read text")
    mine, theirs = one.config.backbone, other.config.backbone
    if one.base.fingerprint != other.base.fingerprint:
        settings = [name for name in READING if getattr(mine, name) != getattr(theirs, name)]
        odd = [f"{name} {getattr(mine, name)!r} and {getattr(theirs, name)!r}" for name in settings]
        if one.base.hub_id != other.base.hub_id or not odd:
            odd = [f"{one.base.hub_id} and {other.base.hub_id}, with other weights or tokenizers", *odd]
        raise ConfigError(
            f"other: the bundles' backbones differ ({'; '.join(odd)}), so their text vectors cannot be compared; train "
            "both with the same"
        )
    if _training_fingerprint(one) != _training_fingerprint(other):
        raise ConfigError(
            "other: the bundles' backbones were trained apart, so their text vectors cannot be compared; train both "
            "with backbone.strategy frozen"
        )


def _training_fingerprint(bundle: Bundle) -> object:
    """What tells one training of a backbone from another: hashes of stored weights, or the object itself."""
    return (
        bundle.trained_backbone.files if isinstance(bundle.trained_backbone, StoredWeights) else bundle.trained_backbone
    )


def find_nearest_pairs(mine: Tensor, theirs: Tensor, k: int) -> list[tuple[int, int, float]]:
    """The k pairs of rows of (M, D) and (T, D) that are most alike, best first, each row in one pair at most."""
    alike, pairs = cosine_matrix(mine, theirs), list[tuple[int, int, float]]()
    for _ in range(min(k, *alike.shape)):
        row, column = divmod(int(alike.argmax()), alike.shape[1])
        pairs.append((row, column, float(alike[row, column])))
        alike[row], alike[:, column] = -torch.inf, -torch.inf
    return pairs
