"""Read settings in Python: a preset, file, mapping or configuration, with overrides such as `train__epochs=3`."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from llmrec.config.data import DataConfig
from llmrec.config.presets import get_preset
from llmrec.config.strict_yaml import load_strict
from llmrec.errors import ConfigError

Settings: TypeAlias = "dict[str, Any]"


def read_settings(config: object, kind: type[Any], job: str) -> Settings:
    """Return nested settings of a configuration in any of its forms.

    Args:
        config: Name of a preset, path of a YAML file, mapping, instance of `kind`, or None for no settings.
        kind: Dataclass of the configuration.
        job: Name of the job, whose presets are known.

    Returns:
        Nested settings; of an instance only those that differ from its defaults.

    Raises:
        ConfigError: If there is no such preset or file, or `config` is of another type.
    """
    if config is None:
        return {}
    if isinstance(config, kind):
        return _list_changes(config)
    if isinstance(config, Mapping):
        plain: Settings = to_plain(config)
        return plain
    if isinstance(config, (str, Path)):
        return _read_file(get_preset(str(config), job))
    raise ConfigError(f"config: {type(config).__name__}. Pass a preset, a path, a mapping or a {kind.__name__}.")


def nest_overrides(overrides: Mapping[str, object]) -> Settings:
    """Nest overrides by their sections.

    Args:
        overrides: Values by name, with `__` between the sections.

    Returns:
        Nested settings.

    Example:
        >>> nest_overrides({"train__epochs": 3, "train__patience": 1, "drift": None})
        {'train': {'epochs': 3, 'patience': 1}, 'drift': None}
    """
    nested: Settings = {}
    for name, value in overrides.items():
        for part in reversed(name.split("__")):
            value = {part: value}
        nested = merge_settings(nested, to_plain(value))
    return nested


def merge_settings(settings: Settings, changes: Settings) -> Settings:
    """Return settings with changes, section by section.

    Args:
        settings: Nested settings.
        changes: Nested settings that win.

    Returns:
        New nested settings.

    Example:
        >>> merge_settings({"train": {"epochs": 9, "patience": 2}}, {"train": {"epochs": 3}, "drift": None})
        {'train': {'epochs': 3, 'patience': 2}, 'drift': None}
    """
    merged = dict(settings)
    for name, value in changes.items():
        old = merged.get(name)
        merged[name] = merge_settings(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def to_plain(settings: object) -> Any:
    """Return settings as JSON has them: sections as dictionaries, paths as text.

    Args:
        settings: Mapping, dataclass or plain value.

    Returns:
        The plain value.
    """
    return json.loads(json.dumps(settings, default=_convert))


def _convert(value: object) -> object:
    if isinstance(value, DataConfig):
        return _list_changes(value)  # columns that are not named are guessed
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, Mapping):
        return dict(value)
    return value.item() if hasattr(value, "item") else str(value)  # a number of NumPy, or a path


def _list_changes(config: Any) -> Settings:
    """Return the settings of a dataclass that differ from the defaults."""
    changes: Settings = {}
    for field in dataclasses.fields(config):
        default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
        if (value := getattr(config, field.name)) != default:
            changes[field.name] = value
    plain: Settings = to_plain(changes)
    return plain


def _read_file(path: Path) -> Settings:
    try:
        content = load_strict(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"config {path}: {error.strerror}. Correct the path, or give a preset.") from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"config {path}: not valid YAML ({error}). Correct the file.") from error
    if not isinstance(content, dict):
        raise ConfigError(f"config {path}: no settings. Write them as NAME: VALUE.")
    return content
