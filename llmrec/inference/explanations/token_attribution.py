"""Attribute an item's score by the model to the tokens of its text, by integrated gradients.

The tokens add up to the score minus that of a text of as much padding, up to the error of the integral over the
embeddings (Sundararajan et al. 2017, arXiv:1703.01365). The user state and the item's vector by id are held fixed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from llmrec.backbones.text_backbone import TextBackbone
from llmrec.data.ids import is_id
from llmrec.errors import ConfigError, missing_extra
from llmrec.inference.explanations.explanation import TokenAttribution
from llmrec.inference.queries import Item, QueryBatch, find_item_rows, render_item_text
from llmrec.inference.served_catalog import ServedCatalog

STEPS, STEPS_PER_PASS = 32, 8  # of the integral; of them in one pass


def attribute_tokens(catalog: ServedCatalog, batch: QueryBatch, item: Item) -> tuple[TokenAttribution, ...]:
    """Attribute the score of an item to its tokens, leaving out special tokens.

    Args:
        catalog: Items and their vectors.
        batch: One history.
        item: Id of a catalog item, or the fields of another one.

    Returns:
        Tokens with their attributions, in the order of the text.

    Raises:
        ConfigError: If captum is not installed.
        BundleError: If the bundle works on ids alone.
    """
    try:
        from captum.attr import LayerIntegratedGradients
    except ImportError as error:
        raise ConfigError(f"tokens: captum is not installed. {missing_extra('explain')}") from error
    backbone = catalog.text_space.backbone
    tokens = backbone.tokenize([_get_text(catalog, item)])
    ids, mask = tokens.get_batch(np.array([0]), backbone.device)  # (1, L)
    special = _mark_special(backbone, ids)
    exclude = ids.masked_fill(~special, tokens.pad_id)
    model: Any = backbone.model
    gradients = LayerIntegratedGradients(_make_score_function(catalog, batch, item), model.get_input_embeddings())
    with torch.inference_mode(mode=False):
        found = gradients.attribute(
            ids, exclude, additional_forward_args=(mask,), n_steps=STEPS, internal_batch_size=STEPS_PER_PASS
        )
    values = found[0].sum(1)  # (L, D) -> (L,)
    names = backbone.tokenizer.convert_ids_to_tokens(ids[0].tolist())
    attributed = zip(names, values.tolist(), special[0].tolist(), strict=True)
    return tuple(TokenAttribution(name, value) for name, value, is_special in attributed if not is_special)


def _make_score_function(catalog: ServedCatalog, batch: QueryBatch, item: Item) -> Callable[[Tensor, Tensor], Tensor]:
    """Return a function from ids and mask (B, L) to the scores (B,) that the item has with these texts."""
    model = catalog.bundle.model
    state = catalog.scorer.encode_histories(batch.queries, catalog.cold_item_vectors(batch.texts))[0]  # (D,)
    known = torch.zeros(1, dtype=torch.bool, device=state.device)
    by_id: Tensor | float = 0.0
    if is_id(item):
        row = find_item_rows(catalog.items, [item])
        known = model.items.known[row]
        by_id = (catalog.scorer.table[row] - model.items.encode_text(catalog.text_space.vectors[row])).detach()

    def score(ids: Tensor, mask: Tensor) -> Tensor:
        vectors = model.items.encode_text(catalog.text_space.backbone(ids, mask)) + by_id
        return model.score(state[None], model.scoring_vectors(vectors), known)[0]

    return score


def _get_text(catalog: ServedCatalog, item: Item) -> str:
    if is_id(item):
        return str(catalog.items.text_array[int(find_item_rows(catalog.items, [item])[0])])
    return render_item_text(catalog.items, item)


def _mark_special(backbone: TextBackbone, ids: Tensor) -> Tensor:
    """Return which tokens are the tokenizer's own instead of words, (1, L) bool."""
    tokenizer = backbone.tokenizer
    own = {*tokenizer.all_special_ids} - {tokenizer.unk_token_id} | {tokenizer.eos_token_id} - {None}
    return torch.isin(ids, torch.tensor(sorted(own), device=ids.device))
