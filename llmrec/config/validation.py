"""Bounds of settings, written on the fields as `Annotated[int, Bounds(1)]`, and their check.

Upper bounds are far beyond use: they keep a damaged or hostile configuration from requesting all memory.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Annotated, Any, NamedTuple, get_origin, get_type_hints

from llmrec.errors import ConfigError

COUNT, WIDTH = 2**31, 2**16  # maximum of a count, and of the width of a layer


class Bounds(NamedTuple):
    """Range of a number, as metadata of a field."""

    low: float
    """Lower bound."""
    high: float = math.inf
    """Upper bound, which is allowed."""
    above: bool = False
    """True if the lower bound itself is not allowed."""

    def contains(self, number: float) -> bool:
        """Return True if a number is within the bounds.

        Args:
            number: The number.

        Returns:
            True or False.
        """
        return (self.low < number if self.above else self.low <= number) and number <= self.high

    def __str__(self) -> str:
        low = f"{'above' if self.above else 'at least'} {self.low:g}"
        return low if self.high in (math.inf, COUNT) else f"{low} and at most {self.high:g}"


COUNT_FROM_1, COUNT_FROM_0 = Bounds(1, COUNT), Bounds(0, COUNT)
SHARE, PART, POSITIVE = Bounds(0, 1), Bounds(0, 0.999, above=True), Bounds(0, above=True)


def validate_bounds(config: Any, prefix: str = "") -> None:
    """Check every number of a configuration and of its sections against the bounds on its field.

    Args:
        config: Dataclass whose fields may be `Annotated[..., Bounds(...)]`.
        prefix: Text before each name.

    Raises:
        ConfigError: If a number is not finite or outside its bounds.
    """
    kind: Any = type(config)  # mypy does not know that types are hashable
    rules = _get_rules(kind)
    for field in fields(config):
        value, name = getattr(config, field.name), f"{prefix}{field.name}"
        for part in value if isinstance(value, (tuple, list)) else [value]:
            if is_dataclass(part):
                validate_bounds(part, f"{name}.")
            else:
                _check(name, part, rules.get(field.name, ()))


@cache
def _get_rules(kind: type[Any]) -> dict[str, tuple[Any, ...]]:
    """Return the metadata of the annotated fields of a dataclass, by name."""
    hints = get_type_hints(kind, include_extras=True)
    return {name: hint.__metadata__ for name, hint in hints.items() if get_origin(hint) is Annotated}


def _check(name: str, value: Any, rules: tuple[Any, ...]) -> None:
    """Raise ConfigError if a value does not follow the rules of its field."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{name}={value}: give a finite number")
    for rule in rules:
        if isinstance(rule, Bounds) and is_number and not rule.contains(value):
            raise ConfigError(f"{name}={value}: give a number {rule}")


def validate_utf8(arguments: Sequence[str]) -> None:
    """Check that arguments are valid UTF-8; Python represents other bytes as lone surrogates.

    Args:
        arguments: Arguments of a process.

    Raises:
        ConfigError: If an argument is not valid UTF-8.
    """
    for place, argument in enumerate(arguments, start=1):
        if any("\ud800" <= sign <= "\udfff" for sign in argument):
            raise ConfigError(f"argument {place} ({ascii(argument)[:80]}) is no text in UTF-8; write it as such")
