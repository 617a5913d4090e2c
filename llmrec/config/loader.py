"""Parse YAML files and arguments as a configuration; unknown keys and wrong types are errors."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, Sequence
from dataclasses import is_dataclass, make_dataclass
from typing import TYPE_CHECKING, Any, TypeVar, get_type_hints

from llmrec.config.parse_errors import format_parse_error
from llmrec.config.presets import resolve_presets
from llmrec.config.validation import validate_bounds, validate_utf8
from llmrec.errors import ConfigError
from llmrec.utils.run_logging import enable_debug_output

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

Config = TypeVar("Config")
logger = logging.getLogger(__name__)


def parse_config(
    kind: type[Config], arguments: Sequence[str] | None = None, *, description: str | None = None
) -> Config:
    """Parse `--config PRESET_OR_FILE --train.learning_rate 1e-4 ...` as a configuration.

    Args:
        kind: Dataclass of the configuration; the name of its module is the job whose presets are known.
        arguments: Arguments, of which later ones win; None for those of the process.
        description: Text at the head of `--help`.

    Returns:
        The configuration.

    Raises:
        ConfigError: If a key, a type or a number is wrong, or settings contradict each other.
        SystemExit: After `--help`, and after `--print_config`, which prints the result as YAML.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    validate_utf8(given)
    given = resolve_presets(given, kind.__module__.rpartition(".")[2])
    usage = "%(prog)s --config FILE.yaml [--section.key VALUE ...]"  # the full one would bury every error
    with_help = "--help" in given or "-h" in given
    parser = _build_parser(kind, with_help=with_help, description=description or kind.__doc__, usage=usage)
    parser.add_argument(
        "--config", action="config", help="Preset, or a YAML file of settings; arguments after it override it."
    )
    parser.add_argument("--verbose", action="store_true", help="Log every step with its time.")
    parsed = _parse(kind, parser, given)
    if parsed.verbose:
        enable_debug_output()
    return _instantiate(kind, parser, parsed)


def parse_sections(kinds: Mapping[str, type[Any]], arguments: Sequence[str]) -> list[Any]:
    """Parse dotted settings of sections, each of which may be left out.

    Args:
        kinds: Dataclass of each section, by its name.
        arguments: Settings, such as `--data.source FOLDER`.

    Returns:
        Each section in the order of `kinds`; None for one without settings.

    Raises:
        ConfigError: If a key, a type or a number is wrong.
    """
    sections = [(name, kind | None, None) for name, kind in kinds.items()]
    kind: Any = make_dataclass("Sections", sections, frozen=True)
    parser = _build_parser(kind)
    parsed = _instantiate(kind, parser, _parse(kind, parser, arguments))
    return [getattr(parsed, name) for name in kinds]


def _build_parser(kind: type[Config], *, with_help: bool = False, **options: Any) -> ArgumentParser:
    """Build the parser of a dataclass. Help comes from docstrings under fields, which take time to read."""
    from jsonargparse import ArgumentParser, set_parsing_settings

    from llmrec.config.strict_yaml import register_strict_yaml

    set_parsing_settings(docstring_parse_attribute_docstrings=with_help)
    parser = ArgumentParser(parser_mode=register_strict_yaml(), exit_on_error=False, allow_abbrev=False, **options)
    parser.add_class_arguments(kind, as_group=False)
    return parser


def _parse(kind: type[Any], parser: ArgumentParser, arguments: Sequence[str]) -> Any:
    """Parse arguments; errors become ConfigError."""
    from argparse import ArgumentError

    try:
        return parser.parse_args(list(arguments))
    except UnicodeError as error:
        raise ConfigError(f"--config: not valid UTF-8 ({error}). Write the file in UTF-8.") from error
    except ArgumentError as error:
        if isinstance(error.__cause__, ConfigError):
            raise error.__cause__ from None
        raise ConfigError(format_parse_error(str(error), kind)) from error


def _instantiate(kind: type[Config], parser: ArgumentParser, parsed: Any) -> Config:
    """Build the dataclass of parsed settings, and check its sections and numbers."""
    _validate_sections(kind, parsed)
    try:
        settings = vars(parser.instantiate(parsed))
    except ValueError as error:  # of an optional section jsonargparse reports only that no alternative fits
        if isinstance(error.__cause__, ConfigError):
            raise error.__cause__ from None
        raise ConfigError(format_parse_error(str(error), kind)) from error
    config = kind(**{key: value for key, value in settings.items() if key not in ("config", "verbose")})
    validate_bounds(config)
    return config


def _validate_sections(kind: type[Any], parsed: Any, *, prefix: str = "") -> None:
    """Raise ConfigError for `train: 5` or an empty `train:`, of which jsonargparse does not give the name."""
    for name, hint in get_type_hints(kind).items():
        if not isinstance(hint, type) or not is_dataclass(hint):
            continue
        if not hasattr(parsed[name], "__dict__"):
            raise ConfigError(f"{prefix}{name}={parsed[name]!r}: it is a section; give its settings, or leave it out")
        _validate_sections(hint, parsed[name], prefix=f"{prefix}{name}.")
