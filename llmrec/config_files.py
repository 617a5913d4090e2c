"""From YAML files and command-line arguments to a configuration, strictly: unknown keys and wrong types are named."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

Config = TypeVar("Config")


def parse_config(kind: type[Config], arguments: Sequence[str] | None = None, description: str | None = None) -> Config:
    """`--config file.yaml --train.learning_rate 1e-4 ...` as an instance of the dataclass `kind`.

    arguments: of the command line by default. Later ones win; `--print_config` shows the result as YAML.
    Exits with usage and the reason where a key or a value is wrong.
    """
    from jsonargparse import ArgumentParser

    usage = "%(prog)s --config FILE.yaml [--section.key VALUE ...]"  # the full one would bury every error
    parser = ArgumentParser(description=description or kind.__doc__, usage=usage)
    parser.add_argument("--config", action="config", help="a YAML file of settings; arguments after it override it")
    parser.add_class_arguments(kind, as_group=False)
    parsed: Any = parser.instantiate_classes(parser.parse_args(arguments))
    settings = {key: value for key, value in vars(parsed).items() if key != "config"}
    return kind(**settings)
