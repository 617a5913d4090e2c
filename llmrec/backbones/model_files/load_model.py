"""Loader of a checkpoint's text model and tokenizer, which holds their parts against each other."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from llmrec.backbones.model_files.checkpoint_files import CheckpointFiles
from llmrec.backbones.model_files.checkpoint_formats import check_format, get_quantization
from llmrec.backbones.model_files.quantization import build_quantization
from llmrec.backbones.model_files.resolve import UNTRUSTED, WEIGHTS
from llmrec.config.backbone import Quantization
from llmrec.errors import BackboneError

logger = logging.getLogger(__name__)
UNUSED = "pooler"  # parts with this name may lack weights: llmrec pools the hidden states itself
SHOWN = 3  # names of weights in a message
ALONE = "save its text model alone, with transformers' save_pretrained"


def load_text_model(
    name: str,
    path: str,
    revision: str | None,
    subfolder: str,
    *,
    files: CheckpointFiles,
    quantize: Quantization | None = None,
) -> Any:
    """Load the text model of a checkpoint in fp32.

    Args:
        name: Name of the backbone, for messages.
        path: Local folder or Hub id.
        revision: Revision on the Hub.
        subfolder: Folder of the model inside.
        files: Files of the checkpoint.
        quantize: Form of the linear layers; None for fp32.

    Returns:
        The model: of an encoder and a decoder the encoder, of a model of several media the part for text.

    Raises:
        BackboneError: If weights are missing, or the model cannot be loaded; the message says what it is.
    """
    from transformers import MODEL_FOR_TEXT_ENCODING_MAPPING, AutoConfig, AutoModel, AutoModelForTextEncoding
    from transformers.utils import logging as transformers_logging

    from llmrec.backbones import static_model  # noqa: F401  registers its architecture

    place: dict[str, Any] = {"revision": revision, "subfolder": subfolder}
    check_format(name, files, subfolder)
    quantized = build_quantization(name, quantize) if quantize else {}
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    level = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]  # missing weights are raised below
    try:
        stored: Any = AutoConfig.from_pretrained(path, **place, **UNTRUSTED)
        halves: Any = type(stored) in MODEL_FOR_TEXT_ENCODING_MAPPING and stored.get_text_config() is stored
        loader: Any = AutoModelForTextEncoding if halves else AutoModel
        model, report = loader.from_pretrained(
            path,
            config=stored,
            dtype=torch.float32,
            output_loading_info=True,
            **quantized,
            ignore_mismatched_sizes=True,  # they are raised below, with their names
            **place,
            **WEIGHTS,
        )
    except Exception as error:  # any kind: a damaged folder can fail in any of transformers' loaders
        if method := get_quantization(files, subfolder):
            raise BackboneError(
                f"backbone {name!r}: its weights are quantized by {method}, which cannot be read here: "
                f"{_shorten(error)}. Give the checkpoint that it was made from."
            ) from error
        raise cannot_load(name, revision, error) from error
    finally:
        transformers_logging.set_verbosity(level)
    text = _get_text_part(name, model)
    _check_weights(name, model, text, report)
    text.stored_dtype = str(stored.dtype or torch.float32).removeprefix("torch.")
    return text


def load_tokenizer(name: str, path: str, revision: str | None, subfolder: str) -> Any:
    """Load the tokenizer of a checkpoint.

    Args:
        name: Name of the backbone, for messages.
        path: Local folder or Hub id.
        revision: Revision on the Hub.
        subfolder: Folder of the tokenizer inside.

    Returns:
        The tokenizer.

    Raises:
        BackboneError: If it cannot be loaded.
    """
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(path, revision=revision, subfolder=subfolder, **UNTRUSTED)
    except Exception as error:  # any kind, as above
        raise cannot_load(name, revision, error) from error


def cannot_load(name: str, revision: str | None, error: Exception) -> BackboneError:
    """Make the error of a checkpoint that a library cannot load.

    Args:
        name: Name of the backbone.
        revision: Revision on the Hub.
        error: Error of the library.

    Returns:
        Error with the library's own reason.
    """
    return BackboneError(
        f"backbone {name!r} (revision {revision or 'default'}) cannot be loaded: {_shorten(error)}. Copy it again as a "
        "whole, or give a folder saved by save_pretrained or a Hub id that this machine can reach."
    )


def _shorten(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".")


def lower_case(tokenizer: Any) -> None:
    """Make a tokenizer lower-case its texts, as sentence-transformers' do_lower_case does.

    Args:
        tokenizer: Tokenizer to change.
    """
    from tokenizers.normalizers import Lowercase, Sequence

    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        tokenizer.do_lower_case = True
        return
    backend.normalizer = Sequence([Lowercase(), *([backend.normalizer] if backend.normalizer else [])])


def _get_text_part(name: str, model: Any) -> Any:
    """Return the part of a model that reads text by itself."""
    from transformers import PreTrainedModel

    wanted = model.config.get_text_config()
    if wanted is model.config:
        return _get_encoder(model)
    parts = [part for part in model.modules() if isinstance(part, PreTrainedModel) and part.config is wanted]
    parts = [part for part in parts if part is not model] or [
        part for part in model.modules() if isinstance(part, PreTrainedModel) and type(part.config) is type(wanted)
    ]
    if not parts:
        raise BackboneError(
            f"backbone {name!r}: {type(model).__name__} has no part for text alone. Use a model of text, or {ALONE}."
        )
    return _get_encoder(parts[0])


def _get_encoder(model: Any) -> Any:
    """Return the encoder of a model whose decoder needs inputs of its own, else the model itself."""
    if not model.config.is_encoder_decoder or not hasattr(model, "get_encoder"):
        return model
    ids = torch.tensor([[1, 2]])
    try:
        with torch.no_grad():
            model(input_ids=ids, attention_mask=torch.ones_like(ids))
    except Exception:  # any kind: each architecture fails in its own way
        return model.get_encoder()
    return model


def _check_weights(name: str, model: Any, text: Any, report: dict[str, Any]) -> None:
    """Raise BackboneError if the file lacks weights of the text model, or has weights that it does not have."""
    prefix = next((f"{path}." if path else "" for path, part in model.named_modules() if part is text), "")
    needed = {prefix + key for key in text.state_dict()}
    missing = sorted(key for key in report["missing_keys"] if key in needed and UNUSED not in key.split("."))
    unexpected = sorted(report["unexpected_keys"])
    if sizes := sorted(found for found in report["mismatched_keys"] if found[0] in needed):
        key, there, wanted = sizes[0]
        raise BackboneError(
            f"backbone {name!r}: {len(sizes)} of the {len(needed)} weights of {type(text).__name__} have other sizes "
            f"in the file than config.json states, such as {key}: {tuple(there)} and not {tuple(wanted)}. Copy the "
            "config.json that belongs to the weights."
        )
    if missing:
        there = f"; the file has {_list_names(unexpected)} instead" if unexpected else ""
        raise BackboneError(
            f"backbone {name!r}: {len(missing)} of the {len(needed)} weights of {type(text).__name__} are not in the "
            f"file: {_list_names(missing)}{there}. {_suggest_names(missing, unexpected)}"
        )
    if extra := [key for key in unexpected if _has_layer(text, key.removeprefix(text.base_model_prefix + "."))]:
        raise BackboneError(
            f"backbone {name!r}: the file has {_list_names(extra)}, and {type(text).__name__} as its config.json "
            "describes it has no such weights. Correct config.json, or copy the checkpoint again."
        )
    if beyond := [key for key in unexpected if _is_beyond(text, key.removeprefix(text.base_model_prefix + "."))]:
        logger.warning(
            "backbone %r: config.json describes fewer layers than the file has; %s are left out",
            name,
            _list_names(beyond),
        )


def _is_beyond(model: nn.Module, key: str) -> bool:
    """Return whether a weight belongs to a layer after the last one of a list of layers of the model."""
    modules = dict(model.named_modules())
    for found in re.finditer(r"\.(\d+)\.", key):
        layers = modules.get(key[: found.start()])
        if isinstance(layers, nn.ModuleList) and int(found[1]) >= len(layers):
            return True
    return False


def _has_layer(model: nn.Module, key: str) -> bool:
    """Return whether a weight belongs to a linear layer or norm of the model that lacks it."""
    owner, _, leaf = key.rpartition(".")
    layer = dict(model.named_modules()).get(owner)
    return leaf in ("weight", "bias") and isinstance(layer, (nn.Linear, nn.LayerNorm))


def _list_names(keys: Sequence[str]) -> str:
    return ", ".join(keys[:SHOWN]) + (", ..." if len(keys) > SHOWN else "")


def _suggest_names(missing: Sequence[str], unexpected: Sequence[str]) -> str:
    """Return the remedy for missing weights; a wrapper leaves a prefix before each name."""
    ends = tuple(missing)
    for key in unexpected:
        inner = next((end for end in ends if key.endswith(f".{end}")), None)
        if inner is not None:
            prefix = key.removesuffix(inner)
            return (
                f"The names in the file begin with {prefix!r}, which a wrapper has put there: save the model inside it "
                "(model.module.save_pretrained, or unwrap it first), or take the prefix off the names."
            )
    return "Save the whole model with save_pretrained, with the config.json that belongs to it."
