"""Checks that the tokenizer and the model of a checkpoint fit together and can read text."""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import Tensor, nn

from llmrec.backbones.token_store import TokenStore
from llmrec.errors import BackboneError

LISTED = 4  # tokens in a message


MEDIA = ("image", "audio", "video", "boi", "eoi", "boa", "eoa")  # beginnings of names of tokens that no text has


def check_tokenizer(name: str, tokenizer: Any, model: nn.Module) -> None:
    """Check that the embedding has a row for each token.

    Args:
        name: Name of the backbone.
        tokenizer: Its tokenizer.
        model: Its text model.

    Raises:
        BackboneError: If the tokenizer has more tokens, other than those that stand for images or sound.
    """
    n_rows, special = _count_rows(model), tokenizer.special_tokens_map
    media = {str(token) for role, token in special.items() if role.split("_")[0] in MEDIA}
    beyond = sorted(
        (row, token) for token, row in tokenizer.get_vocab().items() if row >= n_rows and token not in media
    )
    if beyond:
        listed = ", ".join(repr(token) for _, token in beyond[:LISTED])
        raise BackboneError(
            f"backbone {name!r}: its tokenizer has {beyond[-1][0] + 1:,} tokens and its embedding {n_rows:,} rows, "
            f"none for {listed}{', ...' if len(beyond) > LISTED else ''}. Lengthen the embedding with "
            "model.resize_token_embeddings(len(tokenizer)) and save the model, or save the tokenizer without them."
        )


def check_rows(name: str, tokenizer: Any, model: nn.Module, tokens: TokenStore) -> None:
    """Check that the embedding has a row for each token of texts.

    Args:
        name: Name of the backbone.
        tokenizer: Its tokenizer.
        model: Its text model.
        tokens: Tokens of the texts.

    Raises:
        BackboneError: If a text has the word for an image or sound, see `check_tokenizer`.
    """
    last = int(tokens.flat.max(initial=0))
    if last >= _count_rows(model):
        raise BackboneError(
            f"backbone {name!r}: a text has the word {tokenizer.convert_ids_to_tokens(last)!r}, for which the model "
            "has no vector. Take it out of the text."
        )


@torch.no_grad()
def check_one_text(name: str, model: nn.Module, ids: Tensor) -> None:
    """Read one text, so that a model that cannot be used is found when it is loaded.

    Args:
        name: Name of the backbone.
        model: Its text model.
        ids: Tokens of a text, (1, L).

    Raises:
        BackboneError: If the model needs more than tokens, or returns no finite states of them.
    """
    kind = type(model).__name__
    try:
        hidden = model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
    except Exception as error:  # any kind: each architecture fails in its own way
        reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        raise BackboneError(
            f"backbone {name!r}: {kind} cannot read a text by its tokens alone: {reason}. Use an encoder or a "
            "decoder of text."
        ) from error
    if hidden.shape[:2] != ids.shape:
        raise BackboneError(
            f"backbone {name!r}: {kind} returns {tuple(hidden.shape)} states for {tuple(ids.shape)} tokens, not "
            "one for each. Use an encoder or a decoder of text."
        )
    if not hidden.isfinite().all():
        raise BackboneError(f"backbone {name!r}: {kind} returns states that are not finite. Copy its weights again.")


def _count_rows(model: Any) -> int:
    """Return the number of rows of the embedding of tokens; of a model without one, a large number."""
    weight = getattr(model.get_input_embeddings(), "weight", None)
    return sys.maxsize if weight is None else len(weight)
