"""Files by which sentence-transformers, and `backbone.name`, make a backbone's vectors, in a form that 2 to 6 read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from llmrec.backbones.model_files.vector_recipe import POOLING_FLAGS, POOLINGS
from llmrec.backbones.text_backbone import TextBackbone

POOLING_FOLDER = "1_Pooling"


def save_pooling(folder: Path, backbone: TextBackbone) -> None:
    """Write the pooling, where `pooling: auto` finds it.

    Args:
        folder: Folder to write.
        backbone: The backbone.
    """
    modes = backbone.pooling.split("+")
    if not set(modes) <= set(POOLING_FLAGS.values()):
        return  # echo, which only `backbone.pooling` can request
    flags = {flag: mode in modes for flag, mode in POOLING_FLAGS.items()}
    (folder / POOLING_FOLDER).mkdir()
    settings: dict[str, object] = {"word_embedding_dimension": backbone.hidden_width, **flags}
    if modes != [mode for mode in POOLING_FLAGS.values() if mode in modes]:  # flags have an order of their own
        words = {mode: word for word, mode in POOLINGS.items()}
        settings = {"embedding_dimension": backbone.hidden_width, "pooling_mode": [words[mode] for mode in modes]}
    (folder / POOLING_FOLDER / "config.json").write_text(json.dumps(settings, indent=2))


def save_modules(
    folder: Path, backbone: TextBackbone, prompts: Mapping[str, str], default: str, *, max_tokens: int | None
) -> None:
    """Write the modules, the layers after the pooling, the maximum length and the prompts.

    Args:
        folder: Folder to write, which has the transformer and the pooling.
        backbone: The backbone.
        prompts: Prompts by name.
        default: Prompt of every text, one of `prompts`; empty for none.
        max_tokens: Maximum number of tokens of a text; None for the tokenizer's.
    """
    parts = [("Transformer", ""), ("Pooling", POOLING_FOLDER), *backbone.layers.save(folder, 2)]
    parts.append(("Normalize", f"{len(parts)}_Normalize"))
    modules = [
        {"idx": row, "name": str(row), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for row, (kind, path) in enumerate(parts)
    ]
    named = next((name for name, prompt in prompts.items() if prompt == default), None) if default else None
    settings = {
        "modules.json": modules,
        "sentence_bert_config.json": {"max_seq_length": max_tokens, "do_lower_case": backbone.recipe.lower_case},
        "config_sentence_transformers.json": {
            "prompts": dict(prompts),
            "default_prompt_name": named,
            "similarity_fn_name": "cosine",
            **({"truncate_dim": backbone.layers.n_dims} if backbone.layers.n_dims else {}),
        },
    }
    for name, found in settings.items():
        (folder / name).write_text(json.dumps(found, indent=2))
