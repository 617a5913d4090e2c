"""Folders in the forms that releases of sentence-transformers publish, written here without that library."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

# release: (how the pooling is written, where its classes live, file of a module's weights)
RELEASES = {
    "2": ("flags", "sentence_transformers.models", "pytorch_model.bin"),
    "3": ("flags", "sentence_transformers.models", "model.safetensors"),
    "5": ("word", "sentence_transformers.models", "model.safetensors"),
    "6": ("word", "sentence_transformers.sentence_transformer.modules", "model.safetensors"),
}
FLAGS = {
    "cls": "pooling_mode_cls_token",
    "mean": "pooling_mode_mean_tokens",
    "max": "pooling_mode_max_tokens",
    "mean_sqrt_len_tokens": "pooling_mode_mean_sqrt_len_tokens",
    "weightedmean": "pooling_mode_weightedmean_tokens",
    "lasttoken": "pooling_mode_lasttoken",
}


def write_folder(
    base: Path,
    folder: Path,
    release: str,
    modes: list[str],
    layers: list[tuple[str, dict[str, Any], dict[str, torch.Tensor]]] = (),
    **settings: Any,
) -> Path:
    """A model of transformers with its modules; layers: kind, config.json and weights of each.

    settings: prompts, default_prompt_name and truncate_dim; transformer: content of sentence_bert_config.json.
    """
    how, home, weights = RELEASES[release]
    shutil.copytree(base, folder)
    for place, (kind, config, tensors) in enumerate([("Pooling", pooling(how, modes), {}), *layers], start=1):
        path = folder / f"{place}_{kind}"
        path.mkdir()
        write_json(path / "config.json", config)
        if tensors and weights.endswith(".bin"):
            torch.save(tensors, path / weights)
        elif tensors:
            save_file(tensors, path / weights)
    parts = ["Transformer", "Pooling", *(kind for kind, _, _ in layers)]
    modules = [
        {"idx": k, "name": str(k), "path": f"{k}_{kind}" if k else "", "type": f"{home}.{kind}"}
        for k, kind in enumerate(parts)
    ]
    write_json(folder / "modules.json", modules)
    transformer = {"max_seq_length": None, "do_lower_case": False} | settings.pop("transformer", {})
    write_json(folder / "sentence_bert_config.json", transformer)
    write_json(folder / "config_sentence_transformers.json", {"prompts": {}, "default_prompt_name": None} | settings)
    return folder


def pooling(how: str, modes: list[str], width: int = 32) -> dict[str, Any]:
    if how == "flags":
        flags = {flag: mode in modes for mode, flag in FLAGS.items()}
        return {"word_embedding_dimension": width, **flags, "include_prompt": True}
    return {
        "embedding_dimension": width,
        "pooling_mode": modes[0] if len(modes) == 1 else modes,
        "include_prompt": True,
    }


def dense(n_in: int, n_out: int, activation: str = "torch.nn.modules.activation.Tanh", bias: bool = True) -> tuple:
    draw = torch.Generator().manual_seed(n_out)
    weights = {"linear.weight": torch.randn(n_out, n_in, generator=draw)}
    if bias:
        weights["linear.bias"] = torch.randn(n_out, generator=draw)
    return (
        "Dense",
        {"in_features": n_in, "out_features": n_out, "bias": bias, "activation_function": activation},
        weights,
    )


def write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content))


def compute_states(base: Path, text: str) -> torch.Tensor:
    """Hidden states (L, D) of one text, by transformers alone."""
    from transformers import AutoModel, AutoTokenizer

    ids = torch.tensor([AutoTokenizer.from_pretrained(base)(text)["input_ids"]])
    with torch.no_grad():
        return AutoModel.from_pretrained(base).eval()(input_ids=ids).last_hidden_state[0]


def pool_by_hand(states: torch.Tensor, mode: str) -> torch.Tensor:
    """What each mode says, in one line each."""
    length = len(states)
    weights = torch.arange(1, length + 1, dtype=torch.float32)[:, None]
    return {
        "cls": states[0],
        "lasttoken": states[-1],
        "max": states.max(0).values,
        "mean": states.mean(0),
        "mean_sqrt_len_tokens": states.sum(0) / length**0.5,
        "weightedmean": (states * weights).sum(0) / weights.sum(),
    }[mode]
