"""PEFT's own description of a bundle's adapter, which is read as data and never acted on.

PEFT does much that an adapter_config.json asks for: it imports modules by name (`megatron_core`, `auto_mapping`),
unpickles files (`corda_config`) and runs regular expressions over layer names. So what llmrec saves is a plain LoRA, a
description of anything else is refused, and the adapter is built from llmrec.json.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from llmrec.config.backbone import LoraConfig
from llmrec.errors import BundleError
from llmrec.hub.layout import LAYOUT, bundle_file

NAME = re.compile(r"[A-Za-z0-9_.]+")  # of a layer
FREE = {"revision", "peft_version", "inference_mode", "fan_in_fan_out"}  # which change no number
PLAIN = {  # what PEFT writes of a LoRA that has nothing special, where that is not nothing
    "peft_type": "LORA", "task_type": "FEATURE_EXTRACTION", "bias": "none", "init_lora_weights": True,
    "qalora_group_size": 16, "megatron_core": "megatron.core",
}  # fmt: skip


def read_target_modules(folder: Path, lora: LoraConfig, base: str) -> list[str]:
    """The names of the layers that a bundle's adapter is on. base: the hub id of its base model.

    Raises:
        BundleError: a description that asks for anything but the plain LoRA of `lora` on layers by name.
    """
    path = bundle_file(folder, LAYOUT.adapter_config)
    found = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(found, dict):
        raise BundleError(f"{path}: no settings of an adapter; copy or download the bundle again")
    expected = PLAIN | {
        "r": lora.rank,
        "lora_alpha": lora.alpha,
        "use_dora": lora.use_dora,
        "use_rslora": lora.use_rslora,
    }
    expected["base_model_name_or_path"] = base
    odd = {
        name: value for name, value in found.items() if name not in FREE and _settings_differ(value, expected.get(name))
    }
    targets = odd.pop("target_modules", None)
    if odd or not isinstance(targets, list) or not all(isinstance(one, str) and NAME.fullmatch(one) for one in targets):
        named = next(iter(odd.items()), ("target_modules", targets))
        raise BundleError(
            f"{path}: {named[0]}={str(named[1])[:80]!r} is not of the LoRA that llmrec.json describes; copy or "
            "download the bundle again, and trust none that says so then"
        )
    return sorted(targets)


def _settings_differ(value: Any, expected: Any) -> bool:
    """Nothing, in any spelling, is what PEFT has where a feature is not used."""
    return bool(value) if expected is None else value != expected
