"""Methods of PEFT that adapt a backbone, with the settings that each takes under PEFT's own names.

A method is offered if its layers can be merged into the backbone, start as the identity, need nothing of the training
loop, and can be rebuilt from plain values, so that a bundle from somewhere else runs no code.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from llmrec.errors import ConfigError

PeftSettings = dict[str, bool | int | float | str | list[str]]
LAYER_NAME = re.compile(r"[A-Za-z0-9_.]+")
ALL_LINEAR = "all-linear"
SHARED = {"type", "target_modules", "last_k"}  # settings of every method; `last_k` is llmrec's


@dataclass(frozen=True)
class PeftMethod:
    """One method of PEFT."""

    peft_type: str
    """PEFT's name of the method."""
    settings: dict[str, float]
    """Settings that can be given, with the largest value of each; the smallest is 0."""
    fixed: dict[str, Any] = field(default_factory=dict)
    """Settings that make the method out of PEFT's, such as DoRA out of LoRA."""
    written: dict[str, Any] = field(default_factory=dict)
    """Other settings that PEFT writes for it, which are left at their defaults."""


_MANY = 2.0**16
_LORA = {"r": _MANY, "lora_alpha": 2.0**31}
_LORA_WRITTEN = {
    "bias": "none",
    "init_lora_weights": True,
    "qalora_group_size": 16,
    "megatron_core": "megatron.core",
}
_WEIGHTS = {"init_weights": True}
METHODS: dict[str, PeftMethod] = {
    "lora": PeftMethod("LORA", _LORA | {"use_dora": 1, "use_rslora": 1}, {}, _LORA_WRITTEN),
    "dora": PeftMethod("LORA", _LORA | {"use_rslora": 1}, {"use_dora": True}, _LORA_WRITTEN),
    "rslora": PeftMethod("LORA", _LORA | {"use_dora": 1}, {"use_rslora": True}, _LORA_WRITTEN),
    "ia3": PeftMethod("IA3", {"feedforward_modules": 0}, {}, {"init_ia3_weights": True}),
    "vera": PeftMethod(
        "VERA",
        {"r": _MANY, "d_initial": 1e6, "projection_prng_key": 2.0**31},
        {},
        {"bias": "none", "save_projection": True} | _WEIGHTS,
    ),
    "loha": PeftMethod("LOHA", {"r": _MANY, "alpha": 2.0**31}, {}, _WEIGHTS),
    "lokr": PeftMethod(
        "LOKR", {"r": _MANY, "alpha": 2.0**31, "decompose_both": 1}, {}, {"decompose_factor": -1} | _WEIGHTS
    ),
}
REFUSED = {
    "prefix_tuning": "it changes the attention of a generating model, not its vectors",
    "prompt_tuning": "its virtual tokens would be pooled with the text",
    "p_tuning": "its virtual tokens would be pooled with the text",
    "adalora": "it prunes ranks by calls from the training loop",
    "xlora": "it mixes several trained adapters",
    "poly": "it needs the task of each text",
}


@dataclass(frozen=True)
class AdapterSettings:
    """Adapter layers of a backbone."""

    method: PeftMethod
    """Method of PEFT."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Settings of PEFT's class, without the target modules."""
    target_modules: str | tuple[str, ...] = ALL_LINEAR
    """Names of the linear layers that get an adapter, or all-linear."""
    last_k: int | None = None
    """Number of top layers with adapters; None for all."""

    @classmethod
    def from_peft(cls, given: Mapping[str, Any]) -> AdapterSettings:
        """Check the settings of `backbone.peft`.

        Args:
            given: Settings under PEFT's names, with the method as `type`.

        Returns:
            The checked settings.

        Raises:
            ConfigError: If the method is not offered, or a setting is unknown or out of bounds.
        """
        method = _find_method(given.get("type"))
        targets = given.get("target_modules", ALL_LINEAR)
        last_k = given.get("last_k")
        if last_k is not None and (isinstance(last_k, bool) or not isinstance(last_k, int) or last_k < 1):
            raise ConfigError(f"backbone.peft.last_k={last_k!r}: give a number of layers from 1")
        settings = {name: value for name, value in given.items() if name not in SHARED}
        for name, value in settings.items():
            _check_setting(str(given["type"]), method, name, value)
        if method.peft_type == "IA3":
            settings.setdefault("feedforward_modules", [])  # PEFT's own defaults exist for a few architectures alone
        targets = targets if isinstance(targets, str) else tuple(targets)
        return cls(method, settings | method.fixed, targets, last_k)


def _find_method(name: Any) -> PeftMethod:
    method = METHODS.get(str(name).lower()) if name is not None else None
    if method is not None:
        return method
    reason = REFUSED.get(str(name).lower().replace("-", "_"), "llmrec has not been tried with it")
    problem = "no type" if name is None else f"type={name!r} is not offered: {reason}"
    raise ConfigError(f"backbone.peft: {problem}. Give one of {', '.join(METHODS)}.")


def _check_setting(kind: str, method: PeftMethod, name: str, value: Any) -> None:
    known = ", ".join(sorted({*method.settings, *SHARED}))
    if name not in method.settings:
        raise ConfigError(f"backbone.peft.{name}: not a setting of {kind} that llmrec offers. Give some of {known}.")
    if name == "feedforward_modules":
        if not isinstance(value, (list, tuple)) or not all(LAYER_NAME.fullmatch(str(each)) for each in value):
            raise ConfigError(f"backbone.peft.{name}={value!r}: give a list of names of layers")
        return
    smallest = 1 if name == "r" else 0
    if not isinstance(value, (bool, int, float)) or not smallest <= value <= method.settings[name]:
        raise ConfigError(f"backbone.peft.{name}={value!r}: give a number from {smallest} to {method.settings[name]:g}")
