"""Converter of GGUF files, llama.cpp's format, into folders that transformers loads in a second."""

from __future__ import annotations

import struct
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from llmrec.errors import BackboneError, missing_extra
from llmrec.utils.atomic_files import first_folder, sha256_file
from llmrec.utils.paths import get_cache_dir

# Reading a GGUF file takes a minute even for a small model, and its tokenizer lacks the rule that splits digits. The
# folder is in the cache under the hash of the file and is renamed into place when it is complete, so that concurrent or
# killed runs can at worst repeat work.
CONVERSION = 2  # increased whenever the folders change
_UNREADABLE = (OSError, ValueError, KeyError, IndexError, struct.error)  # the last two for truncated files


def unpack_gguf(file: Path) -> Path:
    """Return a folder with a GGUF file's weights in fp32 and its tokenizer, converted once.

    Args:
        file: The GGUF file.

    Returns:
        Folder in the cache.

    Raises:
        BackboneError: If the package gguf is not installed, or transformers cannot read the file.
    """
    folder = get_cache_dir() / "gguf" / f"{file.stem}-{sha256_file(file)[:16]}-{CONVERSION}"
    if not folder.is_dir():
        if find_spec("gguf") is None:
            raise BackboneError(
                f"{file.name}: the package gguf, which reads it, is not installed. {missing_extra('gguf')}"
            )
        sys.stderr.write(f"{file.name}: unpacked into the cache once, about a minute\n")
        with first_folder(folder) as partial:
            for part in _read(file):
                part.save_pretrained(partial)
    return folder


def _read(file: Path) -> tuple[Any, Any]:
    """Read the language model with its head, and the tokenizer."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name, trust_remote_code=False)
        model = AutoModelForCausalLM.from_pretrained(
            file.parent,
            gguf_file=file.name,
            trust_remote_code=False,
            dtype=torch.float32,
            quantization_config=GgufConfig(dequantize=True),  # a quantized model could not be saved
        )
    except _UNREADABLE as error:
        raise BackboneError(f"{file}: transformers cannot read this GGUF file: {error}. Give another file.") from error
    if _read_pre_tokenizer(file) == "smollm":
        _split_digits(tokenizer)
    _add_rows(model, len(tokenizer))
    return model, tokenizer


def _add_rows(model: Any, n_tokens: int) -> None:
    """Give rows of zeros to the tokens that transformers adds to a file's own, which no text has."""
    n_rows = len(model.get_input_embeddings().weight)
    if n_tokens > n_rows:
        model.resize_token_embeddings(n_tokens, mean_resizing=False)
        for embedding in (model.get_input_embeddings(), model.get_output_embeddings()):
            embedding.weight.data[n_rows:] = 0


def _read_pre_tokenizer(file: Path) -> str | None:
    """Read llama.cpp's name of the rules that split text before merging, which transformers ignores."""
    from gguf import GGUFReader

    field = GGUFReader(file).fields.get("tokenizer.ggml.pre")
    return None if field is None else str(field.contents())


def _split_digits(tokenizer: Any) -> None:
    """Set SmolLM's rules: each digit by itself, the rest as GPT-2 splits it."""
    from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence

    tokenizer.backend_tokenizer.pre_tokenizer = Sequence(
        [Digits(individual_digits=True), ByteLevel(add_prefix_space=False)]
    )
