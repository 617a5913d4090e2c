"""Similarity of items: of their texts, or of the vectors that a model has learned.

Text vectors are compared less the mean of their own catalog (`ServedCatalog.center`), which would otherwise be most of
the difference between items of two catalogs.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from llmrec.data.ids import is_id
from llmrec.errors import ConfigError
from llmrec.hub.base_model import StoredWeights
from llmrec.hub.bundle import Bundle
from llmrec.inference.queries import Item, Time
from llmrec.inference.ranked_items import Recommendation, top_recommendations
from llmrec.inference.served_catalog import ServedCatalog
from llmrec.inference.text_space import cosine_matrix
from llmrec.utils.result_list import ResultList

SimilaritySpace = Literal["text", "model"]
READING = ("pooling", "prompt", "max_tokens")  # settings in a backbone's fingerprint in addition to its weights


def item_similarities(space: SimilaritySpace, item: Item, catalog: ServedCatalog, others: ServedCatalog) -> Tensor:
    """Return the cosine of an item with every item of another catalog, or of its own.

    Args:
        space: What is compared: text vectors, or item vectors of the model.
        item: Id in `catalog`, or fields of a new item.
        catalog: The catalog that the item belongs to.
        others: The catalog to compare with, which may be the same.

    Returns:
        (N,) cosines.

    Raises:
        ConfigError: If the space is unknown or not shared by the two bundles.
        DataError: If the id is unknown.
        BundleError: If text is needed and a bundle knows items by their ids alone.
    """
    if space not in get_args(SimilaritySpace):
        raise ConfigError(f"by={space!r}: text or model")
    if others is not catalog and space == "model":
        raise ConfigError("by=model: the models of two bundles see items in spaces of their own; compare them by text")
    if space == "model":
        return cosine_matrix(catalog.scoring_vectors([item])[0], catalog.scorer.scoring_items)[0]
    if others is not catalog:
        check_same_encoder(catalog.bundle, others.bundle)
    own, other = catalog.text_space, others.text_space
    return cosine_matrix(own.center(catalog.text_vectors([item])), other.center(other.vectors))[0]


@torch.no_grad()
def rank_similar_items(
    item: Item, catalog: ServedCatalog, others: ServedCatalog, *, k: int, space: SimilaritySpace, at: Time | None
) -> ResultList[Recommendation]:
    """Return the k items of a catalog that are most similar to an item, without the item itself.

    Args:
        item: Id in `catalog`, or fields of a new item.
        catalog: The catalog that the item belongs to.
        others: The catalog to search, which may be the same.
        k: Number of items.
        space: What is compared, see `item_similarities`.
        at: Items released later are left out.

    Returns:
        At most k items, best first.
    """
    similarity = item_similarities(space, item, catalog, others).cpu() + others.exclusion_bias(at)
    if others is catalog and is_id(item):
        similarity[catalog.find_rows([item])] = -torch.inf
    return top_recommendations(others.items, similarity, k, unit="cosine")


def check_same_encoder(first: Bundle, second: Bundle) -> None:
    """Check that the text vectors of two bundles can be compared.

    They can if the base model is the same, trained together or not at all.

    Args:
        first: A bundle.
        second: The bundle to compare with.

    Raises:
        ConfigError: If they cannot, or one of the bundles has no text vectors.
    """
    if first.base is None or second.base is None:
        raise ConfigError("catalog: a bundle on ids alone has no text to compare; give two that read text")
    settings, others = first.config.backbone, second.config.backbone
    if first.base.fingerprint != second.base.fingerprint:
        names = [name for name in READING if getattr(settings, name) != getattr(others, name)]
        odd = [f"{name} {getattr(settings, name)!r} and {getattr(others, name)!r}" for name in names]
        if first.base.hub_id != second.base.hub_id or not odd:
            odd = [f"{first.base.hub_id} and {second.base.hub_id}, with other weights or tokenizers", *odd]
        raise ConfigError(
            f"catalog: the bundles' backbones differ ({'; '.join(odd)}), so their text vectors cannot be compared; "
            "train both with the same"
        )
    if _training_fingerprint(first) != _training_fingerprint(second):
        raise ConfigError(
            "catalog: the bundles' backbones were trained apart, so their text vectors cannot be compared; train both "
            "with backbone.strategy frozen"
        )


def _training_fingerprint(bundle: Bundle) -> object:
    """Return what identifies one training of a backbone: hashes of stored weights, or the object itself."""
    trained = bundle.trained_backbone
    return trained.files if isinstance(trained, StoredWeights) else trained


def find_nearest_pairs(first: Tensor, second: Tensor, k: int) -> list[tuple[int, int, float]]:
    """Return the k most similar pairs of two sets of vectors, each vector in one pair at most.

    Args:
        first: Vectors, (M, D).
        second: Vectors, (T, D).
        k: Number of pairs.

    Returns:
        Row of `first`, row of `second` and cosine of each pair, best first.
    """
    similarity, pairs = cosine_matrix(first, second), list[tuple[int, int, float]]()
    for _ in range(min(k, *similarity.shape)):
        row, column = divmod(int(similarity.argmax()), similarity.shape[1])
        pairs.append((row, column, float(similarity[row, column])))
        similarity[row], similarity[:, column] = -torch.inf, -torch.inf
    return pairs
