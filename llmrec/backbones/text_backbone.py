"""Text encoder on top of any encoder or decoder that transformers' AutoModel loads.

A test on the model itself shows if it is causal, and what a checkpoint of sentence-transformers says about its vectors
is read from its files, so that no list of architectures is needed.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from tqdm.auto import tqdm

from llmrec.backbones.fast_encoding import FastEncoding, Parts
from llmrec.backbones.layers import HiddenStateSource, PrecomputedHidden, make_bidirectional, truncate_layers
from llmrec.backbones.length_batches import batch_by_length
from llmrec.backbones.model_files.checkpoint_checks import check_one_text, check_rows, check_tokenizer
from llmrec.backbones.model_files.checkpoint_files import open_checkpoint
from llmrec.backbones.model_files.load_model import cannot_load, load_text_model, load_tokenizer, lower_case
from llmrec.backbones.model_files.resolve import resolve_backbone
from llmrec.backbones.model_files.vector_layers import VectorLayers
from llmrec.backbones.model_files.vector_recipe import VectorRecipe, choose_prompt, read_recipe
from llmrec.backbones.pooling import choose_pooling, is_causal, pool
from llmrec.backbones.token_store import TokenStore
from llmrec.config.backbone import TEXT, BackboneConfig
from llmrec.errors import BackboneError
from llmrec.utils.precision import upcast_to_fp32

Report = str | Callable[[int], object]  # name of a progress bar, or function of the number of texts encoded
TOKENS_AT_ONCE, TOKENS_AT_ONCE_GPU = 2048, 32_768  # tokens of one forward pass
BATCH_COSTS_GPU = 8192  # tokens; see `batch_by_length`


class TextBackbone(nn.Module):
    """Pretrained model with its tokenizer and a pooling.

    Dropout stays off even while weights are tuned: stored vectors and vectors that carry gradients are in one softmax
    and must agree.

    Args:
        model: Model of transformers.
        tokenizer: Tokenizer of the model.
        config: Settings of the backbone.
        hub_id: Id of the model on the hub, which adapters record.
        path: Local folder, or id on the hub, that the model was loaded from.
        recipe: Statements of the checkpoint on its vectors.
        layers: Layers after the pooling; None for none.
    """

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Any,
        config: BackboneConfig,
        hub_id: str,
        *,
        path: str = "",
        recipe: VectorRecipe | None = None,
        layers: VectorLayers | None = None,
    ) -> None:
        super().__init__()
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.config = config
        self.hub_id, self.path = hub_id, path
        self.recipe, self.layers = recipe or VectorRecipe(), layers or VectorLayers()
        self.causal = is_causal(model)
        self.pooling = choose_pooling(config, self.recipe, causal=self.causal)
        if self.pooling == "echo" and not self.causal:
            raise BackboneError(
                f"backbone.pooling=echo: {hub_id!r} is an encoder, which sees all of a text at once. Use mean or auto."
            )
        self.prompt = choose_prompt(config.prompt, self.recipe)
        self.fast_encoding = FastEncoding(self)
        self.rounds: Callable[[int], int] = int  # forward passes for n batches: more if processes stay in step
        self.base_fingerprint = ""  # of the pretrained weights, before any of them is tuned
        self.base_dtype = "float32"  # that they were stored in
        if getattr(model, "pooler", None) is not None:
            model.pooler = None  # type: ignore[assignment]  # unused, and a parameter without gradient stops DDP

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
        location = resolve_backbone(config.name, config.hub_id)
        path, revision = location.path, config.revision
        try:
            files = open_checkpoint(path, revision)
        except Exception as error:  # any kind: the Hub can fail in many ways
            raise cannot_load(config.name, revision, error) from error
        recipe = read_recipe(files, config.name)
        model = load_text_model(config.name, path, revision, recipe.subfolder, files=files)
        tokenizer = load_tokenizer(config.name, path, revision, recipe.subfolder)
        check_tokenizer(config.name, tokenizer, model)
        if recipe.lower_case:
            lower_case(tokenizer)
        if config.n_layers is not None:
            truncate_layers(model, config.n_layers)
        if config.bidirectional or not getattr(model.config, "is_causal", True):
            make_bidirectional(model)
            if is_causal(model):
                raise BackboneError(
                    f"backbone.bidirectional: {type(model).__name__} looks back only, whatever its settings say. Leave "
                    "backbone.bidirectional out, or use another decoder."
                )
        # PEFT records this name in the adapter; a local path would be useless to other people.
        model.name_or_path = location.hub_id
        model.config._name_or_path = location.hub_id
        check_one_text(config.name, model, torch.tensor([tokenizer("text", verbose=False).input_ids or [1]]))
        layers = VectorLayers.load(files.folder, recipe.layers, recipe.n_dims)
        backbone = cls(model, tokenizer, config, location.hub_id, path=path, recipe=recipe, layers=layers)
        backbone.base_fingerprint = backbone.fingerprint()
        backbone.base_dtype = model.stored_dtype
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
        return self.causal and self.pooling == "last" and not (self.recipe.is_sentence_model or self._closing)

    @property
    def _closing(self) -> str:
        """Text of the prompt after an item's, if a decoder is read at its end, as PromptEOL does.

        Source:
            Jiang et al. 2023, arXiv:2307.16645.
        """
        return self.prompt.split(TEXT, 1)[1] if self.causal and self.pooling == "last" else ""

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
        if self.pooling == "echo":
            tokens = self._tokenize_twice(texts)
        elif self._closing:
            tokens = self._tokenize_closed(texts)
        else:
            prompted = [self.prompt.replace(TEXT, text) for text in texts]
            tokens = TokenStore.from_texts(prompted, self.tokenizer, self.max_tokens, append_eos=self.appends_eos)
        check_rows(self.hub_id, self.tokenizer, self.model, tokens)
        return tokens

    def _tokenize_twice(self, texts: Sequence[str]) -> TokenStore:
        """Tokenize each text two times in a row, the second time without special tokens."""
        prompted = [self.prompt.replace(TEXT, text) for text in texts]
        most, special = min(self.max_tokens, self.max_positions // 2), self.tokenizer.num_special_tokens_to_add()
        first = TokenStore.from_texts(prompted, self.tokenizer, most)
        return first.append(TokenStore.from_texts(prompted, self.tokenizer, most - special, special=False))

    def _tokenize_closed(self, texts: Sequence[str]) -> TokenStore:
        """Tokenize texts with the end of the prompt, which is kept where a text is cut."""
        before, after = self.prompt.split(TEXT, 1)
        closing = TokenStore.from_texts([after], self.tokenizer, self.max_positions, special=False)
        room = self.max_tokens - len(closing.flat)
        if room < 2:
            raise BackboneError(
                f"backbone.max_tokens={self.max_tokens}: the end of backbone.prompt alone has {len(closing.flat)} "
                "tokens. Give more, or a shorter prompt."
            )
        opened = TokenStore.from_texts([before + text for text in texts], self.tokenizer, room)
        return opened.append(closing.take(np.zeros(len(texts), dtype=np.int64)))

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
        with _show_progress(report, len(tokens)) as advance:
            for rows, read in _prefetch_one(
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
            yield (
                rows,
                forward(
                    *tokens.get_batch(rows, self.device),
                    hidden_states.get_batch(rows, self.device) if hidden_states else None,
                ),
            )

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
        digest.update(_read_tokenizer_bytes(self.tokenizer))
        digest.update(self.layers.describe().encode())
        for name, weight in sorted(self.model.state_dict().items()) + sorted(self.layers.state_dict().items()):
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(weight.detach().cpu().numpy()).tobytes())
        return digest.hexdigest()[:32]


def _prefetch_one(parts: Parts) -> Parts:
    """Yield each part once the next has begun: a GPU computes the next one while this one is copied."""
    before = None
    for part in parts:
        if before is not None:
            yield before
        before = part
    if before is not None:
        yield before


def _read_tokenizer_bytes(tokenizer: Any) -> bytes:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return json.dumps(tokenizer.get_vocab(), sort_keys=True).encode()
    rules = json.loads(backend.to_str())
    rules.update(truncation=None, padding=None)  # the last call's, not the tokenizer's
    return json.dumps(rules, sort_keys=True).encode()


@contextmanager
def _show_progress(report: Report | None, total: int) -> Iterator[Callable[[int], object]]:
    if callable(report):
        yield report
        return
    with tqdm(total=total, desc=report, unit="item", disable=True if report is None else None, leave=False) as bar:
        yield bar.update
