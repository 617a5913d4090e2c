"""Read settings from YAML strictly: duplicate keys and aliases that expand to too much are errors.

PyYAML silently keeps the later of two equal keys, and a few lines of nested aliases can expand to billions of nodes.
The check goes through the events of the parser one by one, so that deep nesting needs no stack.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import yaml

MODE = "strict yaml"  # of a jsonargparse parser
MAX_NODES, MAX_DEPTH = 100_000, 50


@dataclass
class _OpenNode:
    """Mapping or list that is not closed yet."""

    anchor: str | None
    """Its anchor, if it has one."""
    size: int = 1
    """Its nodes so far, with aliases expanded."""
    keys: set[str] | None = None
    """Its keys so far; None for a list."""
    at_key: bool = field(default=True)
    """True if the next node of a mapping is a key."""


def register_strict_yaml() -> str:
    """Register `load_strict` as a parser mode of jsonargparse.

    Returns:
        Name of the mode.
    """
    from jsonargparse import set_loader

    set_loader(MODE, load_strict, (yaml.YAMLError,))
    return MODE


def load_strict(text: str) -> Any:
    """Load YAML after checking it with `validate_yaml`.

    Args:
        text: The YAML.

    Returns:
        Its content.

    Raises:
        yaml.YAMLError: If the text is not valid YAML, repeats a key, expands to too much or is nested too deeply.
    """
    from jsonargparse import get_loader

    validate_yaml(text)
    return get_loader("yaml")(text)


def validate_yaml(text: str) -> None:
    """Check that YAML repeats no key, and that its size and depth are limited.

    Args:
        text: The YAML.

    Raises:
        yaml.YAMLError: If the text is not valid YAML, repeats a key, expands to too much or is nested too deeply.
    """
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
            _add(stack[-1], event, 1, scalar=event.value)
        elif isinstance(event, yaml.AliasEvent):
            if any(one.anchor == event.anchor for one in stack):
                raise _yaml_error(event, f"*{event.anchor} is inside &{event.anchor}, and so has no end")
            _add(stack[-1], event, sizes.get(event.anchor, 1))


def _add(holder: _OpenNode, event: yaml.Event, size: int, *, scalar: str | None = None) -> None:
    """Count another node of a list or of a mapping, where keys and values alternate."""
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
