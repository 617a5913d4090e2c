"""Checks of PEFT's description of a bundle's adapter, which is read as data only."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from llmrec.config.peft import LAYER_NAME, AdapterSettings
from llmrec.errors import BundleError
from llmrec.hub.layout import LAYOUT, bundle_file

# An adapter_config.json can make PEFT import modules by name (`megatron_core`, `auto_mapping`), unpickle files
# (`corda_config`) and run regular expressions over layer names. Therefore llmrec saves the methods of config/peft.py
# only, refuses any other description, and builds the adapter from llmrec.json.
FREE = {"revision", "peft_version", "inference_mode", "fan_in_fan_out"}  # settings that change no number


def read_target_modules(folder: Path, adapter: AdapterSettings, base: str) -> list[str]:
    """Read the names of the layers that a bundle's adapter is on.

    Args:
        folder: Folder of the bundle.
        adapter: Method and settings in the bundle's record.
        base: Hub id of the base model.

    Returns:
        Sorted names of layers.

    Raises:
        BundleError: If the description is anything but `adapter` on layers by name.
    """
    path = bundle_file(folder, LAYOUT.adapter_config)
    found = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(found, dict):
        raise BundleError(f"{path}: no settings of an adapter. Copy or download the bundle again.")
    method = adapter.method
    kind = {"peft_type": method.peft_type, "task_type": "FEATURE_EXTRACTION", "base_model_name_or_path": base}
    expected = kind | method.written | adapter.settings
    # What the record leaves open, PEFT filled in with its default: a number within bounds.
    open_settings = {
        name
        for name, high in method.settings.items()
        if name not in adapter.settings and _is_number_within(found.get(name), high)
    }
    odd = {
        name: value
        for name, value in found.items()
        if name not in FREE | open_settings and _settings_differ(value, expected.get(name))
    }
    targets = odd.pop("target_modules", None)
    if odd or not isinstance(targets, list) or not all(_is_layer_name(one) for one in targets):
        named = next(iter(odd.items()), ("target_modules", targets))
        raise BundleError(
            f"{path}: {named[0]}={str(named[1])[:80]!r} differs from the adapter in llmrec.json. Copy or "
            "download the bundle again, and do not trust it if that does not help."
        )
    return sorted(targets)


def _is_layer_name(name: Any) -> bool:
    return isinstance(name, str) and LAYER_NAME.fullmatch(name) is not None


def _is_number_within(value: Any, high: float) -> bool:
    return isinstance(value, (int, float)) and 0 <= value <= high


def _settings_differ(value: Any, expected: Any) -> bool:
    """Return whether a setting differs; an unused one may be empty in any spelling."""
    return bool(value) if expected in (None, []) else value != expected
