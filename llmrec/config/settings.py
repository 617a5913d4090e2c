"""List the settings of a configuration: name, type, default and help of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from textwrap import wrap
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

TYPE_NAMES = {str: "text", bool: "true | false", int: "integer", float: "number"}


@dataclass(frozen=True)
class Setting:
    """One setting of a configuration."""

    name: str
    """Dotted name, such as `train.epochs`."""
    type: str
    """Type in words."""
    default: str
    """Default value; `required` without one."""
    help: str
    """What the setting does, with its unit."""


def list_settings(kind: type[Any], prefix: str = "") -> list[Setting]:
    """List all settings of a configuration class and of its sections.

    Args:
        kind: Dataclass of the configuration.
        prefix: Text before each name.

    Returns:
        Settings in the order of the class; those of a section follow it.
    """
    return list(_iterate_settings(kind, prefix))


def format_settings(settings: Sequence[Setting], width: int = 100) -> list[str]:
    """Format settings as text: name, type and default, then the help.

    Args:
        settings: The settings.
        width: Characters of a line, at most.

    Returns:
        Lines.
    """
    lines = list[str]()
    for setting in settings:
        lines.append(f"{setting.name} ({setting.type}, default: {setting.default})")
        lines += wrap(setting.help, width, initial_indent="    ", subsequent_indent="    ")
    return lines


def list_names(kind: type[Any], prefix: str = "") -> list[str]:
    """List the dotted names of all settings and sections.

    Args:
        kind: Dataclass of the configuration.
        prefix: Text before each name.

    Returns:
        Names in the order of the class.
    """
    names = list[str]()
    for name, hint in get_type_hints(kind).items():
        names.append(prefix + name)
        if section := get_section(hint):
            names += list_names(section, f"{prefix}{name}.")
    return names


def get_section(hint: Any) -> type[Any] | None:
    """Return the dataclass of a field that is a section, also of an optional one.

    Args:
        hint: Type of the field.

    Returns:
        The dataclass; None if the field is not a section.
    """
    for part in get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,):
        if isinstance(part, type) and is_dataclass(part):
            return part
    return None


def get_field_help(kind: type[Any]) -> dict[str, str]:
    """Return the docstring under each field of a dataclass and of its base classes.

    Args:
        kind: The dataclass.

    Returns:
        Help by name of the field; fields without a docstring are missing.
    """
    from docstring_parser import parse_from_object

    found = dict[str, str]()
    for base in reversed(kind.__mro__):
        if is_dataclass(base):
            found |= {doc.arg_name: doc.description for doc in parse_from_object(base).params if doc.description}
    return found


def _iterate_settings(kind: type[Any], prefix: str) -> Iterator[Setting]:
    """Yield the settings of a class, each section followed by its own settings."""
    texts, hints = get_field_help(kind), get_type_hints(kind, include_extras=True)
    for field in fields(kind):
        name, hint = f"{prefix}{field.name}", hints[field.name]
        help_text = " ".join(texts.get(field.name, "").split())
        section = get_section(hint)
        default = "as below" if section and get_default(field) is not None else _format_default(field)
        yield Setting(name, format_type(hint), default, help_text)
        if section:
            yield from _iterate_settings(section, f"{name}.")


def format_type(hint: Any) -> str:
    """Format a type for people.

    Args:
        hint: Type of a field.

    Returns:
        Text such as `integer | null`.

    Example:
        >>> format_type(int | None), format_type(tuple[float, ...]), format_type(Literal["full"] | int)
        ('integer | null', 'list of number', 'full | integer')
    """
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Annotated:
        bounds = [str(part) for part in parts[1:]]
        return f"{format_type(parts[0])} {', '.join(bounds)}".strip()
    if origin in (Union, UnionType):
        return " | ".join(format_type(part) for part in parts)
    if origin is Literal:
        return " | ".join(str(part) for part in parts)
    if origin is tuple:
        return f"list of {format_type(parts[0])}"
    if origin is dict:
        return f"{format_type(parts[0])} to {format_type(parts[1])}"
    if hint is NoneType:
        return "null"
    if isinstance(hint, type) and is_dataclass(hint):
        return "section"
    return TYPE_NAMES.get(hint, str(hint.__name__).lower())


def get_default(field: Field[Any]) -> Any:
    """Return the default of a field.

    Args:
        field: Field of a dataclass.

    Returns:
        The default; MISSING without one.
    """
    return field.default if field.default_factory is MISSING else field.default_factory()


def _format_default(field: Field[Any]) -> str:
    """Format a default as YAML has it."""
    default = get_default(field)
    if default is MISSING:
        return "required"
    if default is None:
        return "null"
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, (tuple, list)):
        return f"[{', '.join(map(str, default))}]"
    return str(default)
