"""Build a configuration from nested settings, as JSON has them: every key and type is checked.

A bundle's settings are read this way whenever it is loaded, which takes a hundredth of the time of a parser.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from llmrec.config.parse_errors import suggest_setting
from llmrec.config.settings import format_type, get_default, list_names
from llmrec.config.validation import validate_bounds
from llmrec.errors import ConfigError

Config = TypeVar("Config")


def config_from_dict(kind: type[Config], settings: object) -> Config:
    """Build a configuration from nested settings, as read from JSON, and check its numbers.

    Args:
        kind: Dataclass of the configuration.
        settings: Nested settings.

    Returns:
        The configuration.

    Raises:
        ConfigError: If a key is unknown or missing, a type is wrong, or a number is out of bounds.
    """
    config = _build(kind, settings, start=None, prefix="")
    validate_bounds(config)
    return config


def _build(kind: type[Config], settings: object, *, start: Config | None, prefix: str) -> Config:
    """Build a dataclass; fields that are not given are those of `start`, or else their defaults."""
    if not isinstance(settings, Mapping):
        section = prefix.rstrip(".") or kind.__name__
        raise ConfigError(f"{section}={_quote(settings)}: it is a section; give its settings, or leave it out")
    known: tuple[Field[Any], ...] = fields(kind)  # type: ignore[arg-type]  # mypy does not know that it is a dataclass
    values = {field.name: get_default(field) if start is None else getattr(start, field.name) for field in known}
    hints = get_type_hints(kind)
    for name, value in settings.items():
        full_name = f"{prefix}{name}"
        if name not in hints:
            raise ConfigError(f"{full_name}: no such setting{suggest_setting(full_name, list_names(kind, prefix))}")
        values[name] = _read(hints[name], value, full_name, start=values[name])
    for name in [name for name, value in values.items() if value is MISSING]:
        if not is_dataclass(hints[name]):
            raise ConfigError(f"{prefix}{name}: missing. Give {format_type(hints[name])}.")
        values[name] = _build(hints[name], {}, start=None, prefix=f"{prefix}{name}.")
    return kind(**values)


def _read(hint: Any, value: Any, name: str, *, start: Any = None) -> Any:
    """Return a value as its type has it; raise ConfigError if it does not fit."""
    origin, parts = get_origin(hint), get_args(hint)
    if isinstance(hint, type) and is_dataclass(hint):
        return _build(hint, value, start=start if isinstance(start, hint) else None, prefix=f"{name}.")
    if origin in (Union, UnionType):
        return _read_alternative(hint, value, name, start=start)
    if origin is Literal and any(type(value) is type(part) and value == part for part in parts):
        return value
    if origin in (tuple, list) and isinstance(value, (tuple, list)) and len(value) == _get_length(parts, value):
        kinds = parts if origin is tuple and ... not in parts else parts[:1] * len(value)
        return origin(_read(kind, part, name) for kind, part in zip(kinds, value, strict=True))
    if origin is dict and isinstance(value, Mapping):
        return {_read(parts[0], key, name): _read(parts[1], part, name) for key, part in value.items()}
    if hint is Path and isinstance(value, (str, Path)):
        return Path(value)
    if hint is float and type(value) is int:
        return float(value)
    if type(value) is hint:
        return value
    raise ConfigError(f"{name}={_quote(value)}: give {format_type(hint)}")


def _read_alternative(hint: Any, value: Any, name: str, *, start: Any) -> Any:
    """Return a value as the first type of a union that it fits."""
    kinds = [part for part in get_args(hint) if part is not NoneType]
    if value is None and len(kinds) < len(get_args(hint)):
        return None
    if len(kinds) == 1:
        return _read(kinds[0], value, name, start=start)
    for kind in kinds:
        try:
            return _read(kind, value, name, start=start)
        except ConfigError:
            continue
    raise ConfigError(f"{name}={_quote(value)}: give {format_type(hint)}")


def _get_length(parts: tuple[Any, ...], value: Any) -> int:
    """Return the number of values that a tuple or list takes: that of its types, or any."""
    return len(value) if ... in parts or len(parts) == 1 else len(parts)


def _quote(value: object) -> str:
    """Quote a value for a message; one of an altered bundle may be long."""
    return repr(value)[:80]
