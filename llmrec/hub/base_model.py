"""Pretrained model below a bundle: what identifies it, and how it is loaded with its trained weights."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from llmrec.backbones.adaptation import load_adapter
from llmrec.backbones.model_files.resolve import find_packaged_copy, is_hub_id
from llmrec.backbones.text_backbone import TextBackbone
from llmrec.config.jobs.finetune import FinetuneConfig
from llmrec.errors import BundleError
from llmrec.hub.adapter import read_target_modules
from llmrec.hub.bundle_record import read_record, translate_read_errors
from llmrec.hub.layout import (
    LAYOUT,
    is_download,
    verify_hashes,
)
from llmrec.hub.probe import Facts, describe_differences, list_dtypes
from llmrec.training.checkpoints import load_trainable
from llmrec.utils.versions import get_package_versions


@dataclass(frozen=True)
class BaseModelInfo:
    """Pretrained model that a bundle is based on."""

    hub_id: str
    """Public name of the model."""
    revision: str | None
    """Revision on the Hub; None if unknown."""
    fingerprint: str
    """Hash of weights and tokenizer."""
    dtype: str | None = None
    """Type in which the weights were stored; None in older bundles."""

    @classmethod
    def from_backbone(cls, backbone: TextBackbone) -> BaseModelInfo:
        """Describe the base of a backbone.

        Args:
            backbone: Loaded backbone.

        Returns:
            The description.
        """
        loaded: Any = backbone.model.config
        revision = backbone.config.revision or getattr(loaded, "_commit_hash", None)  # the Hub's newest revision
        return cls(backbone.hub_id, revision, backbone.base_fingerprint, backbone.base_dtype)

    def describe(self) -> dict[str, str | None]:
        """Return the facts that may differ between two copies of a model, for a message."""
        return {"base revision": self.revision, "base dtype": self.dtype}


@dataclass(frozen=True)
class StoredWeights:
    """Trained backbone weights in a bundle on disk."""

    folder: Path
    """Folder of the bundle."""
    files: dict[str, str]
    """SHA-256 of each file by name, as recorded."""


def open_backbone(
    folder: Path,
    config: FinetuneConfig,
    base: BaseModelInfo | None,
    tuned: TextBackbone | StoredWeights | None,
    *,
    backbone: str | None,
) -> TextBackbone:
    """Load the base of a bundle, check that it is the bundle's, and load its trained weights.

    Args:
        folder: Folder of the bundle.
        config: Settings of the run that trained the bundle.
        base: Base that the bundle was trained on; None for a bundle with ids only.
        tuned: Trained weights, loaded if they are files; None for the base as it was before any training.
        backbone: Folder or Hub id of the base; None for an installed package's copy, else the Hub.

    Returns:
        The backbone, frozen.

    Raises:
        BundleError: If the bundle has ids only, or the base is not the bundle's.
        BackboneError: If the base cannot be loaded.
    """
    if base is None:
        raise BundleError(
            f"{folder}: this recommender has item ids only and cannot encode text. Use one with a backbone."
        )
    name = backbone or str(find_packaged_copy(base.hub_id) or base.hub_id)
    if backbone is None and is_download(folder) and not is_hub_id(base.hub_id):
        raise BundleError(
            f"{folder}: the base model is a path on another machine ({name}). Give your copy as backbone=."
        )
    revision = base.revision if name == base.hub_id else None
    loaded = TextBackbone.load(replace(config.backbone, name=name, hub_id=base.hub_id, revision=revision))
    if loaded.base_fingerprint != base.fingerprint:
        differences = describe_differences(*compare_environments(folder, base, loaded))
        raise BundleError(
            f"backbone {name!r}: weights or tokenizer differ from the bundle's base {base.hub_id} "
            f"({differences}). Give the right one as backbone=."
        )
    if isinstance(tuned, StoredWeights):
        with translate_read_errors(folder):
            _load_tuned(loaded, tuned, base)
    return loaded.requires_grad_(requires_grad=False)


def compare_environments(
    folder: Path, base: BaseModelInfo | None, backbone: TextBackbone | None
) -> tuple[Facts, Facts]:
    """Return the facts about the environment that a bundle was saved in, and those of this one.

    Args:
        folder: Folder of the bundle.
        base: Base of the bundle.
        backbone: Loaded copy of the base; None leaves it out.

    Returns:
        Facts then and now, by name.
    """
    record = read_record(folder)
    then: Facts = {**record["versions"], **record.get("made_with", {})}
    now: Facts = {**get_package_versions(), "dtype": list_dtypes(load_file(folder / LAYOUT.heads))}
    if base is not None and backbone is not None:
        then, now = then | base.describe(), now | BaseModelInfo.from_backbone(backbone).describe()
    return then, now


def _load_tuned(backbone: TextBackbone, weights: StoredWeights, base: BaseModelInfo) -> None:
    verify_hashes(weights.folder, weights.files)
    if (adapter := backbone.config.adapter) is not None:
        targets = read_target_modules(weights.folder, adapter, base.hub_id)
        backbone.model = load_adapter(backbone.model, weights.folder, adapter, targets)
        return
    state = load_file(weights.folder / LAYOUT.backbone)
    for name, parameter in backbone.model.named_parameters():
        parameter.requires_grad_(name in state)
    load_trainable(backbone.model, state)


def set_base_name(adapter_config: Path, base: BaseModelInfo) -> None:
    """Replace PEFT's local name of the base by the public name and revision.

    Args:
        adapter_config: PEFT's file of settings.
        base: Base of the bundle.
    """
    settings = json.loads(adapter_config.read_text(encoding="utf-8"))
    settings |= {"base_model_name_or_path": base.hub_id, "revision": base.revision}
    adapter_config.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
