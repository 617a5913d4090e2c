"""Description of how a checkpoint makes vectors of texts, as sentence-transformers 2 to 6 write it into its folders.

A part that is not understood is an error: a default in its place would give other vectors without a word.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from llmrec.backbones.model_files.checkpoint_files import CheckpointFiles
from llmrec.config.backbone import TEXT
from llmrec.errors import BackboneError

# sentence-transformers' names of pooling, in the order in which it concatenates several
POOLINGS = {
    "cls": "cls",
    "max": "max",
    "mean": "mean",
    "mean_sqrt_len_tokens": "mean_sqrt_length",
    "weightedmean": "weighted_mean",
    "lasttoken": "last",
}
POOLING_FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_length",
    "pooling_mode_weightedmean_tokens": "weighted_mean",
    "pooling_mode_lasttoken": "last",
}
LAYERS = ("Dense", "LayerNorm", "Normalize", "Dropout")  # modules that may follow the pooling
SETTINGS_FILES = tuple(
    f"sentence_{name}_config.json"
    for name in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)
# Settings of the module Transformer that leave the vectors of texts alone, or that are read below
READ_SETTINGS = {
    "max_seq_length", "do_lower_case", "transformer_task", "modality_config", "module_output_name", "unpad_inputs",
    "processing_kwargs", "query_expansion",
    "model_args", "tokenizer_args", "config_args", "model_kwargs", "processor_kwargs", "config_kwargs",
}  # fmt: skip
HARMLESS_ARGUMENTS = {
    "add_pooling_layer", "attn_implementation", "device_map", "dtype", "low_cpu_mem_usage", "padding_side",
    "reference_compile", "torch_dtype", "trust_remote_code", "unpad_inputs", "use_fast",
    "use_memory_efficient_attention", "use_safetensors",
}  # fmt: skip
LIBRARY = "sentence_transformers."
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LayerSpec:
    """Module of sentence-transformers after the pooling."""

    kind: str
    """One of LAYERS."""
    path: str
    """Folder in the checkpoint."""
    settings: Mapping[str, Any]
    """Its config.json."""


@dataclass(frozen=True)
class VectorRecipe:
    """Statements of a checkpoint on its text vectors."""

    pooling: str | None = None
    """Names joined by +, see `llmrec.backbones.pooling`; None if nothing is said."""
    layers: tuple[LayerSpec, ...] = ()
    """Modules after the pooling, in order."""
    is_sentence_model: bool = False
    """True if it is a folder of sentence-transformers, whose texts have the tokenizer's own tokens and no others."""
    prompts: Mapping[str, str] = field(default_factory=dict)
    """Texts in front of a text, by their names."""
    default_prompt: str = ""
    """Text in front of every text unless another is requested."""
    max_tokens: int | None = None
    """Maximum number of tokens of a text; None: no statement."""
    lower_case: bool = False
    """True if texts are lower-cased."""
    n_dims: int | None = None
    """Number of first dimensions that are kept; None: all."""
    subfolder: str = ""
    """Folder in the checkpoint that holds the transformer; usually the checkpoint itself."""


def read_recipe(files: CheckpointFiles, name: str) -> VectorRecipe:
    """Read how a checkpoint makes vectors.

    Args:
        files: Files of the checkpoint.
        name: Name of the backbone, for messages.

    Returns:
        Its statements.

    Raises:
        BackboneError: If a module or setting is not understood; the message names it.
    """
    modules = files.read_json("modules.json")
    if modules is None:
        if not files.complete:
            logger.warning(
                "backbone %r: the Hub cannot be reached and its cache has no modules.json, so that a pooling that the "
                "repository states is not known; set backbone.pooling, or load it once with the network",
                name,
            )
        settings = files.read_settings("1_Pooling/config.json")  # written without modules.json by pretraining
        return VectorRecipe(_read_pooling(settings, "1_Pooling") if settings else None)
    try:
        return _read_modules(files, [(str(part["type"]), str(part["path"])) for part in modules])
    except (TypeError, KeyError) as error:
        raise BackboneError(
            f"backbone {name!r}: modules.json is no list of modules with type and path ({error!r}). Copy it again."
        ) from error
    except BackboneError as error:
        raise BackboneError(f"backbone {name!r}: {error}") from error


def choose_prompt(wanted: str | None, recipe: VectorRecipe) -> str:
    """Choose the prompt of a backbone.

    Args:
        wanted: Text with {text}, name of a prompt of the checkpoint, or None for its default.
        recipe: Statements of the checkpoint.

    Returns:
        Text with {text} in place of the text.

    Raises:
        BackboneError: If the checkpoint has no prompt of that name.
    """
    if wanted is None:
        return recipe.default_prompt + TEXT
    if TEXT in wanted:
        return wanted
    if wanted not in recipe.prompts:
        raise BackboneError(
            f"backbone.prompt={wanted!r}: it neither holds {TEXT} nor names a prompt of the checkpoint "
            f"({', '.join(recipe.prompts) or 'which has none'}). Give a text such as '{wanted}: {TEXT}', or a name."
        )
    return recipe.prompts[wanted] + TEXT


def _read_modules(files: CheckpointFiles, modules: list[tuple[str, str]]) -> VectorRecipe:
    kinds = [kind.rpartition(".")[2] if kind.startswith(LIBRARY) else kind for kind, _ in modules]
    expected = {0: ("Transformer",), 1: ("Pooling",)}
    for place, (kind, (_, path)) in enumerate(zip(kinds, modules, strict=True)):
        if kind not in expected.get(place, LAYERS):
            raise BackboneError(
                f"modules.json: module {place} ({path or '.'}) is {kind}, which llmrec does not have. It reads "
                f"Transformer, Pooling, then any of {', '.join(LAYERS)}. Use another checkpoint, or save its "
                "transformer alone and set backbone.pooling."
            )
    if len(modules) < len(expected):
        raise BackboneError(
            "modules.json: there is no module Pooling. Use a checkpoint with one, or save its transformer alone."
        )
    root = modules[0][1].strip("/")
    prompts = files.read_settings("config_sentence_transformers.json")
    if files.complete and files.read_json(f"{modules[1][1]}/config.json") is None:
        raise BackboneError(f"module Pooling ({modules[1][1]}): has no config.json. Copy its folder again.")
    pooling = files.read_settings(f"{modules[1][1]}/config.json")
    transformer = _read_transformer(files, root)
    default = _get_default_prompt(prompts)
    if default and not pooling.get("include_prompt", True):
        raise BackboneError(
            f"module Pooling ({modules[1][1]}): include_prompt is false, so that the prompt {default!r} is not pooled, "
            "which llmrec does not support. Set backbone.prompt to '{text}', or use another checkpoint."
        )
    return VectorRecipe(
        pooling=_read_pooling(pooling, modules[1][1]),
        layers=tuple(
            LayerSpec(kind, path, files.read_settings(f"{path}/config.json"))
            for kind, (_, path) in zip(kinds[2:], modules[2:], strict=True)
        ),
        is_sentence_model=True,
        prompts=prompts.get("prompts") or {},
        default_prompt=default,
        max_tokens=_get_max_tokens(transformer),
        lower_case=bool(transformer.get("do_lower_case")),
        n_dims=prompts.get("truncate_dim"),
        subfolder=root,
    )


def _read_pooling(settings: Mapping[str, Any], path: str) -> str:
    """Return the pooling of a config.json, which has one word since sentence-transformers 5.4 and flags before."""
    unknown = [
        key
        for key, on in settings.items()
        if on is True and key.startswith("pooling_mode_") and key not in POOLING_FLAGS
    ]
    if unknown:
        raise BackboneError(f"module Pooling ({path}): {unknown[0]} is not understood. Set backbone.pooling.")
    if "pooling_mode" not in settings:
        return "+".join(mode for flag, mode in POOLING_FLAGS.items() if settings.get(flag)) or "mean"
    stated = settings["pooling_mode"]
    modes = [stated] if isinstance(stated, str) else stated
    if not isinstance(modes, list) or not modes or any(mode not in POOLINGS for mode in modes):
        raise BackboneError(
            f"module Pooling ({path}): pooling_mode {stated!r} is not understood; known are {', '.join(POOLINGS)}. Set "
            "backbone.pooling."
        )
    return "+".join(POOLINGS[mode] for mode in modes)


def _read_transformer(files: CheckpointFiles, root: str) -> Mapping[str, Any]:
    """Read the settings of the module Transformer, and check that the vectors are its last hidden states."""
    prefix = f"{root}/" if root else ""
    found = ((name, files.read_settings(prefix + name)) for name in SETTINGS_FILES)
    name, settings = next(((name, content) for name, content in found if content), ("", {}))
    arguments = {
        key: value
        for group in settings
        if group.endswith(("_args", "_kwargs")) and group != "processing_kwargs"
        for key, value in (settings[group] or {}).items()
        if key not in HARMLESS_ARGUMENTS and key != "model_max_length"
    }
    task, text = settings.get("transformer_task", "feature-extraction"), settings.get("modality_config", {}).get("text")
    odd = {key: settings[key] for key in ("processing_kwargs", "query_expansion") if settings.get(key)}
    odd |= {key: value for key, value in settings.items() if key not in READ_SETTINGS and value not in (None, False)}
    odd |= arguments
    if task != "feature-extraction":
        odd["transformer_task"] = task
    if "modality_config" in settings and (
        text is None or (text.get("method"), text.get("method_output_name")) != ("forward", "last_hidden_state")
    ):
        odd["modality_config"] = text
    if settings.get("module_output_name", "token_embeddings") != "token_embeddings":
        odd["module_output_name"] = settings["module_output_name"]
    if odd:
        key, value = next(iter(odd.items()))
        raise BackboneError(
            f"module Transformer: {name} sets {key} to {value!r}, which llmrec does not follow. Use another "
            "checkpoint, or save its transformer alone and set backbone.pooling."
        )
    return settings


def _get_max_tokens(settings: Mapping[str, Any]) -> int | None:
    """Return the maximum number of tokens that the module Transformer states, by itself or for its tokenizer."""
    groups = (settings.get("tokenizer_args"), settings.get("processor_kwargs"))
    stated = [settings.get("max_seq_length"), *((group or {}).get("model_max_length") for group in groups)]
    return next((int(limit) for limit in stated if limit is not None), None)


def _get_default_prompt(settings: Mapping[str, Any]) -> str:
    """Return the prompt that sentence-transformers puts in front of every text."""
    name, prompts = settings.get("default_prompt_name"), settings.get("prompts") or {}
    if name is None:
        return ""
    if name not in prompts:
        raise BackboneError(
            f"config_sentence_transformers.json: default_prompt_name {name!r} is none of its prompts "
            f"({', '.join(prompts) or 'there are none'}). Correct the file."
        )
    return str(prompts[name])
