"""From YAML files and command-line arguments to a configuration, strictly: unknown keys and wrong types are named."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from dataclasses import is_dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar, get_type_hints

from llmrec.config.validation import validate_bounds, validate_utf8
from llmrec.errors import ConfigError
from llmrec.utils.run_logging import enable_debug_output

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

Config = TypeVar("Config")
logger = logging.getLogger(__name__)


def parse_config(kind: type[Config], arguments: Sequence[str] | None = None, description: str | None = None) -> Config:
    """`--config file.yaml --train.learning_rate 1e-4 ...` as an instance of the dataclass `kind`.

    arguments: of the command line by default. Later ones win; `--print_config` shows the result as YAML.
    Exits with usage and the reason where a key or a value is wrong.

    Raises:
        ConfigError: settings that contradict themselves, a number out of its range, or a file that is no text.
    """
    usage = "%(prog)s --config FILE.yaml [--section.key VALUE ...]"  # the full one would bury every error
    parser = _build_parser(kind, description=description or kind.__doc__, usage=usage)
    parser.add_argument("--config", action="config", help="a YAML file of settings; arguments after it override it")
    parser.add_argument("--verbose", action="store_true", help="tell everything that the run's log.jsonl has")
    arguments = sys.argv[1:] if arguments is None else arguments
    validate_utf8(arguments)
    try:
        parsed = parser.parse_args(arguments)
    except UnicodeError as error:
        raise ConfigError(f"--config: no text in UTF-8 ({error}); write it again as such") from error
    if parsed.verbose:
        enable_debug_output()
    return _instantiate(kind, parser, parsed)


def config_from_dict(kind: type[Config], settings: dict[str, Any]) -> Config:
    """The dataclass `kind` of nested settings, as read from JSON.

    Raises:
        ConfigError: an unknown key or a wrong type, named.
    """
    hashable: Any = kind  # which mypy does not know of every type
    parser = _cached_parser(hashable)
    try:
        return _instantiate(kind, parser, parser.parse_object(settings))
    except Exception as error:  # jsonargparse raises argparse's errors and its own
        raise ConfigError(f"{kind.__name__}: {error}") from error


@lru_cache
def _cached_parser(kind: type[Any]) -> ArgumentParser:
    """Kept, as making one takes as long as reading settings by it, and every bundle that is loaded does."""
    return _build_parser(kind, exit_on_error=False)


def _build_parser(kind: type[Config], **options: Any) -> ArgumentParser:
    from jsonargparse import ArgumentParser

    from llmrec.config.strict_yaml import register_strict_yaml

    parser = ArgumentParser(parser_mode=register_strict_yaml(), **options)
    parser.add_class_arguments(kind, as_group=False)
    return parser


def _instantiate(kind: type[Config], parser: ArgumentParser, parsed: Any) -> Config:
    _validate_sections(kind, parsed)
    try:
        settings = vars(parser.instantiate(parsed))
    except ValueError as error:  # of an optional section jsonargparse tells only that no alternative fits
        if isinstance(error.__cause__, ConfigError):
            raise error.__cause__ from None
        raise
    config = kind(**{key: value for key, value in settings.items() if key not in ("config", "verbose")})
    validate_bounds(config)
    return config


def _validate_sections(kind: type[Any], parsed: Any, prefix: str = "") -> None:
    """Raises ConfigError for `train: 5` or an empty `train:`, of which jsonargparse does not tell the name."""
    for name, hint in get_type_hints(kind).items():
        if not isinstance(hint, type) or not is_dataclass(hint):
            continue
        if not hasattr(parsed[name], "__dict__"):
            raise ConfigError(f"{prefix}{name}={parsed[name]!r}: it is a section; give its settings, or leave it out")
        _validate_sections(hint, parsed[name], f"{prefix}{name}.")
