"""Static token vectors as a model of transformers: the state of a token is its vector, whatever is around it.

The smallest encoder that can be trained: a step costs a look-up. `unpack_static` makes a folder of the usual form out
of a matrix and a tokenizer, so that everything else treats it as any checkpoint.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerFast
from transformers.modeling_outputs import BaseModelOutput
from transformers.utils import logging as transformers_logging

from llmrec.utils.atomic_files import first_folder, sha256_file
from llmrec.utils.paths import get_cache_dir

CONVERSION = 1  # increased whenever the folders change
EMBEDDING = "embedding.weight"  # name of the matrix, as in sentence-transformers' StaticEmbedding


class StaticTextConfig(PreTrainedConfig):  # type: ignore[no-untyped-call]
    """Sizes of a matrix of token vectors.

    Args:
        vocab_size: Number of tokens.
        hidden_size: Width of their vectors.
        **kwargs: Other settings of transformers.
    """

    model_type = "llmrec_static_text"

    def __init__(self, *, vocab_size: int = 1, hidden_size: int = 1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.vocab_size, self.hidden_size = vocab_size, hidden_size
        self.num_hidden_layers = 0


class StaticTextModel(PreTrainedModel):
    """Model whose hidden states are the vectors of the tokens.

    Args:
        config: Sizes of the matrix.
    """

    config_class = StaticTextConfig
    base_model_prefix = "static"

    def __init__(self, config: StaticTextConfig) -> None:
        super().__init__(config)
        self.embedding = nn.Embedding(config.vocab_size, config.hidden_size)
        self.post_init()  # type: ignore[no-untyped-call]

    def get_input_embeddings(self) -> nn.Embedding:
        """Return the matrix.

        Returns:
            Embedding of the tokens.
        """
        return self.embedding

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None, **_: Any) -> BaseModelOutput:
        """Look up the vectors of tokens.

        Args:
            input_ids: Token ids, (U, L).
            attention_mask: Mask, (U, L), which changes nothing.

        Returns:
            Vectors as last_hidden_state, (U, L, D).
        """
        return BaseModelOutput(last_hidden_state=self.embedding(input_ids))


AutoConfig.register(StaticTextConfig.model_type, StaticTextConfig, exist_ok=True)
AutoModel.register(StaticTextConfig, StaticTextModel, exist_ok=True)


def unpack_static(weights: Path, tokenizer: Path) -> Path:
    """Return a folder with static token vectors in fp32 and their tokenizer, converted once.

    Args:
        weights: File of safetensors with the matrix.
        tokenizer: File of the tokenizers library.

    Returns:
        Folder in the cache.
    """
    folder = get_cache_dir() / "static" / f"{weights.stem}-{sha256_file(weights)[:16]}-{CONVERSION}"
    if not folder.is_dir():
        transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        with first_folder(folder) as partial:
            _make_model(load_file(weights)[EMBEDDING].float()).save_pretrained(partial)
            _load_tokenizer(tokenizer).save_pretrained(partial)
            (partial / "1_Pooling").mkdir()
            (partial / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode": "mean"}))
    return folder


def _make_model(matrix: Tensor) -> StaticTextModel:
    model = StaticTextModel(StaticTextConfig(vocab_size=len(matrix), hidden_size=matrix.shape[1]))
    with torch.no_grad():
        model.embedding.weight.copy_(matrix)
    return model


def _load_tokenizer(file: Path) -> Any:
    """Load a tokenizer without the rule that adds special tokens, whose vectors would be pooled with the text's."""
    from tokenizers import Tokenizer

    rules = json.loads(file.read_text(encoding="utf-8")) | {"post_processor": None, "padding": None, "truncation": None}
    words = {token["content"] for token in rules.get("added_tokens", ())}
    special = {role: word for role, word in (("unk_token", "<unk>"), ("pad_token", "</s>")) if word in words}
    fast: Any = PreTrainedTokenizerFast  # untyped
    return fast(tokenizer_object=Tokenizer.from_str(json.dumps(rules)), **special)
