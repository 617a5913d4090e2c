"""Text encoder on top of any encoder or decoder that transformers' AutoModel loads.

A test on the model itself shows if it is causal, and what a checkpoint of sentence-transformers says about its vectors
is read from its files, so that no list of architectures is needed.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from llmrec.backbones.encode_progress import Report, show_progress
from llmrec.backbones.fast_encoding import FastEncoding, Parts, prefetch_one
from llmrec.backbones.layers import HiddenStateSource, PrecomputedHidden
from llmrec.backbones.length_batches import batch_by_length
from llmrec.backbones.model_files.checkpoint_checks import check_rows
from llmrec.backbones.model_files.vector_recipe import choose_prompt
from llmrec.backbones.open_model import OpenedModel, open_model
from llmrec.backbones.pooling import choose_pooling, is_causal, pool
from llmrec.backbones.prompted_texts import PromptedTexts, read_tokenizer_bytes
from llmrec.backbones.token_store import TokenStore
from llmrec.config.backbone import BackboneConfig
from llmrec.utils.precision import upcast_to_fp32

TOKENS_AT_ONCE, TOKENS_AT_ONCE_GPU = 2048, 32_768  # tokens of one forward pass
BATCH_COSTS_GPU = 8192  # tokens; see `batch_by_length`


class TextBackbone(nn.Module):
    """Pretrained model with its tokenizer and a pooling.

    Dropout stays off even while weights are tuned: stored vectors and vectors that carry gradients are in one softmax
    and must agree.

    Args:
        opened: Model, tokenizer, and what the checkpoint says.
        config: Settings of the backbone.
    """

    def __init__(self, opened: OpenedModel, config: BackboneConfig) -> None:
        super().__init__()
        self.model: nn.Module = opened.model.eval()
        self.tokenizer, self.config = opened.tokenizer, config
        self.hub_id, self.path = opened.hub_id, opened.path
        self.recipe, self.layers = opened.recipe, opened.layers
        self.causal = is_causal(self.model)
        self.pooling = choose_pooling(config, self.recipe, causal=self.causal)
        self.prompt = choose_prompt(config.prompt, self.recipe)
        self.fast_encoding = FastEncoding(self)
        self.rounds: Callable[[int], int] = int  # forward passes for n batches: more if processes stay in step
        self.base_fingerprint = ""  # of the pretrained weights, before any of them is tuned
        self.base_dtype = "float32"  # that they were stored in
        if getattr(self.model, "pooler", None) is not None:
            self.model.pooler = None  # unused, and a parameter without gradient stops DDP

    @classmethod
    def load(cls, config: BackboneConfig) -> TextBackbone:
        """Load the model in fp32 and its tokenizer.

        Args:
            config: Settings of the backbone; `name` is a folder or an id on the hub.

        Returns:
            Backbone, truncated to `config.n_layers` if set.

        Raises:
            BackboneError: If it cannot be loaded; the message carries the loader's own reason.
        """
        opened = open_model(config)
        backbone = cls(opened, config)
        backbone.base_fingerprint = backbone.fingerprint()
        backbone.base_dtype = opened.model.stored_dtype
        return backbone

    @property
    def dim(self) -> int:
        """D_text, the length of a text vector."""
        pooled = self.hidden_width * len(self.pooling.split("+"))
        return self.layers.get_width(pooled)

    @property
    def hidden_width(self) -> int:
        """D, the width of the model's hidden states."""
        config: Any = self.model.config
        return int(config.hidden_size)

    @property
    def appends_eos(self) -> bool:
        """True if an EOS ends each text: where a decoder is read by its last token, which nothing else determines."""
        prompted = self._prompted
        return prompted.is_read_at_end and not (self.recipe.is_sentence_model or prompted.closing)

    @property
    def _prompted(self) -> PromptedTexts:
        at_end = self.causal and self.pooling == "last"
        places = self.max_tokens, self.max_positions
        echoed = self.pooling == "echo"
        return PromptedTexts(self.tokenizer, self.prompt, *places, is_echoed=echoed, is_read_at_end=at_end)

    @property
    def max_tokens(self) -> int:
        """Maximum number of tokens of a text: the smallest limit of settings, checkpoint and model."""
        return min(self.config.max_tokens, self.recipe.max_tokens or sys.maxsize, self.max_positions)

    @property
    def max_positions(self) -> int:
        """Maximum number of tokens in a text: the smaller limit of the model and its tokenizer."""
        config: Any = self.model.config
        positions = int(getattr(config, "max_position_embeddings", None) or sys.maxsize)
        return int(min(positions if positions > 0 else sys.maxsize, self.tokenizer.model_max_length))

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return next(self.model.parameters()).device

    def train(self, mode: bool = True) -> TextBackbone:  # noqa: FBT001, FBT002 as in torch
        """Set training mode for gradients without dropout; the wrapped model stays in eval mode.

        Args:
            mode: True for training.

        Returns:
            This backbone.
        """
        self.training = mode
        return self

    def tokenize(self, texts: Sequence[str]) -> TokenStore:
        """Tokenize texts, with the prompt of the configuration around each.

        Args:
            texts: N texts.

        Returns:
            Tokens of the texts, cut to `max_tokens`.
        """
        tokens = self._prompted.tokenize(texts, append_eos=self.appends_eos)
        check_rows(self.hub_id, self.tokenizer, self.model, tokens)
        return tokens

    def batch_tokens(self, tokens: TokenStore) -> list[NDArray[np.int64]]:
        """Divide texts into batches of similar length that suit this device.

        Args:
            tokens: Tokens of N texts.

        Returns:
            Positions of the texts in each batch.
        """
        if self.device.type == "cpu":
            return batch_by_length(tokens.lengths, TOKENS_AT_ONCE)
        return batch_by_length(tokens.lengths, TOKENS_AT_ONCE_GPU, batch_costs=BATCH_COSTS_GPU)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, hidden_states: PrecomputedHidden | None = None
    ) -> Tensor:
        """Compute unit vectors of a padded batch of texts.

        Args:
            input_ids: Tokens, (U, L).
            attention_mask: 1 for tokens, 0 for padding, (U, L).
            hidden_states: Hidden states of the first layers; None to compute them.

        Returns:
            Unit vectors, (U, D_text).
        """
        with hidden_states.inject(self.model) if hidden_states else nullcontext():
            return self.compute_vectors(self.model, input_ids, attention_mask)

    def compute_vectors(self, model: nn.Module, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Encode a padded batch by a model, which may be a copy of the backbone's.

        Args:
            model: The model.
            input_ids: Token ids, (U, L).
            attention_mask: Mask, (U, L).

        Returns:
            Unit vectors, (U, D_text).
        """
        hidden = model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return self.finish(hidden, attention_mask)

    def finish(self, hidden: Tensor, attention_mask: Tensor | None) -> Tensor:
        """Make unit vectors of hidden states.

        Args:
            hidden: States of the last layer, (U, L, D).
            attention_mask: Mask, (U, L); None if there is no padding.

        Returns:
            Unit vectors, (U, D_text).
        """
        pooled = pool(upcast_to_fp32(hidden), attention_mask, self.pooling)
        vectors: Tensor = self.layers.to(hidden.device)(pooled)
        return vectors

    def encode_with_grad(self, tokens: TokenStore, hidden_states: HiddenStateSource | None = None) -> Tensor:
        """Encode texts with gradients to the trainable weights, in batches of similar length.

        Args:
            tokens: Tokens of N texts.
            hidden_states: Hidden states of the first layers for the same texts; None to compute them.

        Returns:
            Unit vectors, (N, D_text).
        """
        batches = self.batch_tokens(tokens)
        idle = self.rounds(len(batches)) - len(batches)  # all processes agree before any of them waits in a pass
        parts = list(self._encode_padded(tokens, hidden_states, batches=batches))
        parts += [self._run_empty_pass(tokens, hidden_states) for _ in range(idle)]
        if not parts:
            return torch.zeros(0, self.dim, device=self.device)
        rows, read = zip(*parts, strict=True)
        order = torch.from_numpy(np.argsort(np.concatenate(rows)))
        return torch.cat(read)[order.to(self.device)]

    @torch.no_grad()
    def encode(self, tokens: TokenStore, report: Report | None = None) -> Tensor:
        """Encode texts without gradients.

        Many texts are encoded as `encode_precision` is set, and packed on a CPU; few texts are encoded in padded
        batches in fp32.

        Args:
            tokens: Tokens of N texts.
            report: Name of a progress bar, or function that receives the number of texts encoded; None for neither.

        Returns:
            Unit vectors on the CPU, (N, D_text).
        """
        vectors = torch.empty(len(tokens), self.dim)
        way = self.fast_encoding.choose_arithmetic(tokens)
        with show_progress(report, len(tokens)) as advance:
            for rows, read in prefetch_one(
                self._encode_padded(tokens) if way is None else self.fast_encoding.encode(way, tokens)
            ):
                vectors[torch.from_numpy(rows)] = read.to(vectors)
                advance(len(rows))
        beyond = np.flatnonzero(~vectors.isfinite().all(1).numpy())  # overflow of fp16
        if way is not None and len(beyond):
            for rows, read in self._encode_padded(tokens.take(beyond)):
                vectors[torch.from_numpy(beyond[rows])] = read.to(vectors)
        return vectors

    def _encode_padded(
        self,
        tokens: TokenStore,
        hidden_states: HiddenStateSource | None = None,
        *,
        batches: Sequence[NDArray[np.int64]] | None = None,
    ) -> Parts:
        again = self.config.gradient_checkpointing and torch.is_grad_enabled()
        forward = partial(checkpoint, self, use_reentrant=False) if again else self
        for rows in self.batch_tokens(tokens) if batches is None else batches:
            entered = hidden_states.get_batch(rows, self.device) if hidden_states else None
            yield rows, forward(*tokens.get_batch(rows, self.device), entered)

    def _run_empty_pass(
        self, tokens: TokenStore, hidden_states: HiddenStateSource | None
    ) -> tuple[NDArray[np.int64], Tensor]:
        """Run a pass through the same layers whose result is left out, so that its gradients are 0."""
        row = np.zeros(min(len(tokens), 1), dtype=np.int64)
        if not len(row):
            word = torch.ones(1, 1, dtype=torch.int64, device=self.device)
            return row, self(word, word)[:0]
        entered = hidden_states.get_batch(row, self.device) if hidden_states else None
        return row[:0], self(*tokens.get_batch(row, self.device), entered)[:0]

    def fingerprint(self) -> str:
        """Compute a hash of everything but the text that a text vector depends on.

        Returns:
            32 hexadecimal digits.
        """
        digest = hashlib.sha256()
        recipe = [self.pooling, self.prompt, self.max_tokens, self.appends_eos, len(self.tokenizer)]
        digest.update(json.dumps(recipe).encode())
        digest.update(read_tokenizer_bytes(self.tokenizer))
        digest.update(self.layers.describe().encode())
        for name, weight in sorted(self.model.state_dict().items()) + sorted(self.layers.state_dict().items()):
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(weight.detach().cpu().numpy()).tobytes())
        return digest.hexdigest()[:32]
