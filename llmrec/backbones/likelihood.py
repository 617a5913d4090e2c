"""Log-likelihood of lines of text after a prefix, which a decoder processes once for all lines."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llmrec.backbones.length_batches import batch_by_length
from llmrec.backbones.lm_head import LanguageHead
from llmrec.backbones.text_backbone import TextBackbone
from llmrec.backbones.token_store import TokenStore
from llmrec.errors import BackboneError

# The keys and values of the prefix are shared; the lines follow it in batches, padded on the right, where no token
# attends to padding. The numbers are those of a plain forward pass over prefix and line.
TOKENS_AT_ONCE = 512  # of the lines; logits over the vocabulary are (TOKENS_AT_ONCE, V)
Ids = NDArray[np.int64]


class LineLikelihood:
    """Decoder with its language-model head that scores lines of text.

    Args:
        backbone: Backbone, a decoder.

    Raises:
        BackboneError: If the backbone is an encoder, or transformers has no such head for it.
    """

    def __init__(self, backbone: TextBackbone) -> None:
        self.backbone = backbone
        self.head = LanguageHead.from_backbone(backbone, "clm").to(backbone.device)
        self.longest: int | None = getattr(backbone.model.config, "max_position_embeddings", None)

    def tokenize(self, text: str, *, special: bool = False) -> Ids:
        """Tokenize a text.

        Args:
            text: The text.
            special: Whether to add the tokens with which the tokenizer starts a text; an EOS is never added.

        Returns:
            Token ids, (P,).
        """
        ids = self.backbone.tokenizer(text, add_special_tokens=special)["input_ids"]
        ends = special and len(ids) > 0 and ids[-1] == self.backbone.tokenizer.eos_token_id
        return np.array(ids[:-1] if ends else ids, dtype=np.int64)

    def tokenize_lines(self, texts: Sequence[str]) -> TokenStore:
        """Tokenize lines, each after a space and before a line break, which ends it.

        Args:
            texts: Lines of text; line breaks in them become spaces.

        Returns:
            Tokens of the C lines, each cut to the backbone's `max_tokens`.
        """
        end = self.tokenize("\n").astype(np.int32)
        room = self.backbone.config.max_tokens - len(end)
        bare = TokenStore.from_texts(
            [f" {' '.join(text.split())}" for text in texts], self.backbone.tokenizer, room, special=False
        )
        ended = np.insert(bare.flat, np.repeat(bare.offset[1:], len(end)), np.tile(end, len(bare)))
        return TokenStore(ended, bare.offset + len(end) * np.arange(len(bare) + 1), bare.pad_id)

    @torch.no_grad()
    def score_lines(self, prefix: Ids, lines: TokenStore) -> NDArray[np.float64]:
        """Compute the log-likelihood of all tokens of each line after a prefix.

        Args:
            prefix: Token ids of the prefix, (P,).
            lines: Tokens of C lines.

        Returns:
            Log-likelihoods in nats, (C,).

        Raises:
            BackboneError: If the prefix is empty, or prefix and line have more tokens than the backbone has positions.
        """
        self._check(len(prefix) + int(lines.lengths.max(initial=0)), len(prefix))
        model, device = self.backbone.model, self.backbone.device
        start = model(input_ids=torch.from_numpy(prefix)[None].to(device), use_cache=True)
        likelihoods = np.empty(len(lines))
        for rows in batch_by_length(lines.lengths, TOKENS_AT_ONCE):
            likelihoods[rows] = self._score_batch(start, len(prefix), *lines.get_batch(rows, device)).cpu().numpy()
        return likelihoods

    def _score_batch(self, start: Any, n_prefix: int, ids: Tensor, mask: Tensor) -> Tensor:
        """Score lines (C, L), whose first token is predicted by the last state of the prefix, (C,) float64."""
        hidden = start.last_hidden_state[:, -1:].expand(len(ids), 1, -1)  # (C, 1, D)
        if ids.shape[1] > 1:
            cache = copy.deepcopy(start.past_key_values)  # a forward pass appends to it
            cache.batch_repeat_interleave(len(ids))
            seen = torch.cat([mask.new_ones(len(ids), n_prefix), mask[:, :-1]], dim=1)  # (C, P + L - 1)
            rest = self.backbone.model(
                input_ids=ids[:, :-1], attention_mask=seen, past_key_values=cache, use_cache=True
            )
            hidden = torch.cat([hidden, rest.last_hidden_state], dim=1)  # (C, L, D)
        real = mask.bool()
        logits = self.head(hidden[real]).float()  # (M, V), without padding
        logprob = logits.gather(1, ids[real][:, None])[:, 0] - logits.logsumexp(1)  # (M,)
        line = real.nonzero()[:, 0]
        return torch.zeros(len(ids), dtype=torch.float64, device=ids.device).index_add(0, line, logprob.double())

    def _check(self, n_tokens: int, n_prefix: int) -> None:
        if not n_prefix:
            raise BackboneError("prefix: empty, but the first token of a line needs a token before it. Give a prefix.")
        if self.longest is not None and n_tokens > self.longest:
            raise BackboneError(
                f"prefix and line: {n_tokens} tokens, but {self.backbone.hub_id} takes {self.longest}. Shorten the "
                "history (prompt.history) or the texts (backbone.max_tokens)."
            )
