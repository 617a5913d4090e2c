"""YAML for settings: nothing said twice, nothing that unfolds to more than was written by a person.

PyYAML takes the later of two equal keys without a word, and a few lines of aliases of aliases stand for billions of
nodes. The check goes through the parser's events, one after the other, so that deep nesting costs no stack.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import yaml

MODE = "strict yaml"  # of a jsonargparse parser
MAX_NODES, MAX_DEPTH = 100_000, 50


@dataclass
class _OpenNode:
    """A mapping or list that has begun. size: its nodes so far, as its aliases unfold. keys: None of a list."""

    anchor: str | None
    size: int = 1
    keys: set[str] | None = None
    at_key: bool = field(default=True)


def register_strict_yaml() -> str:
    """The parser mode of jsonargparse in which settings are read by `load_strict`."""
    from jsonargparse import set_loader

    set_loader(MODE, load_strict, (yaml.YAMLError,))
    return MODE


def load_strict(text: str) -> Any:
    """
    Raises:
        yaml.YAMLError: no YAML, a key that is there twice, aliases that unfold to too much, or too deep a nesting.
    """
    from jsonargparse import get_loader

    validate_yaml(text)
    return get_loader("yaml")(text)


def validate_yaml(text: str) -> None:
    """Raises: as `load_strict`."""
    stack, sizes = [_OpenNode(None)], dict[str, int]()
    for event in yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
        if isinstance(event, yaml.CollectionStartEvent):
            if len(stack) > MAX_DEPTH:
                raise _yaml_error(event, f"nested more than {MAX_DEPTH} deep")
            stack.append(_OpenNode(event.anchor, keys=set() if isinstance(event, yaml.MappingStartEvent) else None))
        elif isinstance(event, yaml.CollectionEndEvent):
            done = stack.pop()
            if done.anchor is not None:
                sizes[done.anchor] = done.size
            _add(stack[-1], event, done.size)
        elif isinstance(event, yaml.ScalarEvent):
            if event.anchor is not None:
                sizes[event.anchor] = 1
            _add(stack[-1], event, 1, event.value)
        elif isinstance(event, yaml.AliasEvent):
            if any(one.anchor == event.anchor for one in stack):
                raise _yaml_error(event, f"*{event.anchor} stands within &{event.anchor}, and so has no end")
            _add(stack[-1], event, sizes.get(event.anchor, 1))


def _add(holder: _OpenNode, event: yaml.Event, size: int, scalar: str | None = None) -> None:
    """Another node of a mapping, where keys and values take turns, or of a list."""
    holder.size += size
    if holder.size > MAX_NODES:
        raise _yaml_error(event, f"aliases unfold to more than {MAX_NODES:,} values; write them out, or fewer")
    if holder.keys is None:
        return
    if holder.at_key and scalar is not None:
        if scalar in holder.keys:
            raise _yaml_error(event, f"{scalar!r} is there twice; keep one")
        holder.keys.add(scalar)
    holder.at_key = not holder.at_key


def _yaml_error(event: yaml.Event, problem: str) -> yaml.YAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=event.start_mark)
