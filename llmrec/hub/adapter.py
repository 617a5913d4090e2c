"""Checks of PEFT's description of a bundle's adapter, which is read as data only."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from llmrec.config.backbone import LoraConfig
from llmrec.errors import BundleError
from llmrec.hub.layout import LAYOUT, bundle_file

# An adapter_config.json can make PEFT import modules by name (`megatron_core`, `auto_mapping`), unpickle files
# (`corda_config`) and run regular expressions over layer names. Therefore llmrec saves plain LoRA only, refuses any
# other description, and builds the adapter from llmrec.json.
NAME = re.compile(r"[A-Za-z0-9_.]+")  # of a layer
FREE = {"revision", "peft_version", "inference_mode", "fan_in_fan_out"}  # settings that change no number
PLAIN = {  # settings that PEFT writes for a plain LoRA, without empty ones
    "peft_type": "LORA", "task_type": "FEATURE_EXTRACTION", "bias": "none", "init_lora_weights": True,
    "qalora_group_size": 16, "megatron_core": "megatron.core",
}  # fmt: skip


def read_target_modules(folder: Path, lora: LoraConfig, base: str) -> list[str]:
    """Read the names of the layers that a bundle's adapter is on.

    Args:
        folder: Folder of the bundle.
        lora: LoRA's settings in the bundle's record.
        base: Hub id of the base model.

    Returns:
        Sorted names of layers.

    Raises:
        BundleError: If the description is anything but the plain LoRA of `lora` on layers by name.
    """
    path = bundle_file(folder, LAYOUT.adapter_config)
    found = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(found, dict):
        raise BundleError(f"{path}: no settings of an adapter. Copy or download the bundle again.")
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
            f"{path}: {named[0]}={str(named[1])[:80]!r} differs from the LoRA in llmrec.json. Copy or "
            "download the bundle again, and do not trust it if that does not help."
        )
    return sorted(targets)


def _settings_differ(value: Any, expected: Any) -> bool:
    """Return whether a setting differs; an unused one may be empty in any spelling."""
    return bool(value) if expected is None else value != expected
