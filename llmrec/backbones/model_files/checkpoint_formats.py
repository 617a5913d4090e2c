"""Checkpoints that their files show to be something else than a model in safetensors, each with its own remedy."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llmrec.backbones.model_files.checkpoint_files import CheckpointFiles
from llmrec.errors import BackboneError

ADAPTER, PIPELINE = "adapter_config.json", "model_index.json"
TRANSFORMERS_PICKLE = "pytorch_model"  # beginning of the names of pickled weights that transformers can read
PICKLED = (".bin", ".bin.index.json", ".pt", ".pth", ".ckpt")
STATE_OF_TRAINING = ("optimizer", "scheduler", "scaler", "rng_state", "training_args")  # files without weights
OTHER_FORMATS = {
    "openvino_model.bin": "OpenVINO", ".h5": "TensorFlow", ".tflite": "TensorFlow Lite", ".msgpack": "Flax",
    ".onnx": "ONNX", ".gguf": "GGUF", ".ot": "Rust", ".mlmodel": "Core ML", ".npz": "NumPy",  # codespell:ignore ot
}  # fmt: skip
POINTER = b"version https://git-lfs"  # first words of what Git LFS leaves in place of a file
TOKENIZERS = ("tokenizer", "vocab", "merges", "spiece", "sentencepiece", "tekken")  # beginnings of names of files


def check_format(name: str, files: CheckpointFiles, subfolder: str) -> None:
    """Check that a checkpoint is a model that transformers loads from safetensors.

    Args:
        name: Name of the backbone, for messages.
        files: Files of the checkpoint.
        subfolder: Folder of the model inside.

    Raises:
        BackboneError: If its files show that it is something else; the message says what to do with it.
    """
    prefix = f"{subfolder}/" if subfolder else ""
    here = {path.removeprefix(prefix) for path in files.names if path.startswith(prefix)}
    _check_kind(name, files, prefix, here)
    if files.complete:
        _check_parts(name, here)
    if weights := sorted(path for path in here if path.endswith((".safetensors", ".safetensors.index.json"))):
        _check_pointers(name, [files.folder / prefix / path for path in weights if "/" not in path])
        return
    _check_weights(name, here)


def get_quantization(files: CheckpointFiles, subfolder: str) -> str | None:
    """Return the method by which the weights of a checkpoint are quantized; None if they are not.

    Args:
        files: Files of the checkpoint.
        subfolder: Folder of the model inside.
    """
    settings = files.read_settings(f"{subfolder}/config.json" if subfolder else "config.json")
    stated = settings.get("quantization_config")
    return str(stated.get("quant_method", "an unknown method")) if isinstance(stated, dict) else None


def _check_kind(name: str, files: CheckpointFiles, prefix: str, here: set[str]) -> None:
    if ADAPTER in here:
        base = files.read_settings(prefix + ADAPTER).get("base_model_name_or_path") or "BASE"
        raise BackboneError(
            f"backbone {name!r}: a PEFT adapter of {base}, not a model. Merge it: PeftModel.from_pretrained("
            f"AutoModel.from_pretrained({base!r}), {name!r}).merge_and_unload().save_pretrained(FOLDER), save the "
            "tokenizer there too, and give that folder."
        )
    if "llmrec.json" in here:
        raise BackboneError(
            f"backbone {name!r}: a bundle of llmrec, not a model. Run llmrec export {name} --output FOLDER, and give "
            "that folder."
        )
    if PIPELINE in here:
        raise BackboneError(f"backbone {name!r}: a pipeline of diffusers, not a model of text. Give one of text.")
    if _needs_code(files.read_settings(f"{prefix}config.json")):
        raise BackboneError(
            f"backbone {name!r}: runs code of its repository, which llmrec does not execute. Use an architecture that "
            "transformers has itself."
        )


def _needs_code(settings: Mapping[str, Any]) -> bool:
    """Return whether an architecture is in its repository only, and not in transformers."""
    from transformers import CONFIG_MAPPING

    return "AutoModel" in settings.get("auto_map", {}) and settings.get("model_type") not in CONFIG_MAPPING


def _check_parts(name: str, here: set[str]) -> None:
    """Check that there is a config.json and a tokenizer."""
    if "config.json" not in here:
        inner = sorted(path.split("/")[0] for path in here if path.endswith("/config.json"))
        where = f"its folder{'s' if len(inner) > 1 else ''} {', '.join(inner)}" if inner else ""
        remedy = f"Give {'one of ' if len(inner) > 1 else ''}{where}" if inner else "Copy it as a whole"
        raise BackboneError(f"backbone {name!r}: has no config.json. {remedy}.")
    if not any(path.startswith(TOKENIZERS) for path in here):
        raise BackboneError(
            f"backbone {name!r}: has no tokenizer. Save it there: AutoTokenizer.from_pretrained(BASE)."
            f"save_pretrained({name!r})."
        )


def _check_pointers(name: str, paths: list[Path]) -> None:
    for path in paths:
        if path.is_file() and path.stat().st_size < len(POINTER) * 20 and path.read_bytes().startswith(POINTER):
            raise BackboneError(
                f"backbone {name!r}: {path.name} is a pointer of Git LFS, not the weights. Run git lfs pull in it."
            )


def _check_weights(name: str, here: set[str]) -> None:
    """Raise BackboneError for weights in another format."""
    readable = any(path.startswith(TRANSFORMERS_PICKLE) for path in here)
    for path in sorted(here):
        kind = next((kind for end, kind in OTHER_FORMATS.items() if path.endswith(end)), None)
        if kind and not readable:
            remedy = "Give the file itself" if kind == "GGUF" else "Give a checkpoint with safetensors"
            raise BackboneError(f"backbone {name!r}: its weights are in the format of {kind} ({path}). {remedy}.")
    pickled = sorted(path for path in here if path.endswith(PICKLED) and "/" not in path)
    for path in [path for path in pickled if not path.startswith(STATE_OF_TRAINING)]:
        remedy = (
            f"If you trust it, save it again: AutoModel.from_pretrained({name!r}).save_pretrained(FOLDER) and "
            f"AutoTokenizer.from_pretrained({name!r}).save_pretrained(FOLDER) write safetensors; give that folder."
            if readable
            else "transformers cannot read it either: convert it by the script of its publisher, or give a checkpoint "
            "with safetensors."
        )
        raise BackboneError(
            f"backbone {name!r}: its weights are pickled ({path}), and loading those can run code that is in the file. "
            + remedy
        )
