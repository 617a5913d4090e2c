"""Usage errors of the command line as one message: place, value, mistake, and where to find help."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import typer


def format_usage_error(error: typer.TyperException, command: str, arguments: Sequence[str]) -> str:
    """Format an error of Typer.

    Args:
        error: The error.
        command: Name of the command, which may not exist.
        arguments: Arguments of the command line.

    Returns:
        A message that names the option and its value.
    """
    context, parameter = getattr(error, "ctx", None), getattr(error, "param", None)
    close = getattr(error, "possibilities", None)
    value = None if parameter is None else _find_value(parameter, arguments)
    if close:
        message = f"{error.message}. Did you mean {close[0]}?"
    elif value is not None:
        message = f"{value}: {error.message.removeprefix('Value error, ')}"
    else:
        message = error.format_message()
    message = message if message.endswith("?") else f"{message.rstrip('.')}."
    program = f"llmrec {command}" if getattr(context, "parent", None) else "llmrec"
    if message[1:2].islower():  # not a variable
        message = message[0].lower() + message[1:]
    return f"{message} See `{program} --help`."


def _find_value(parameter: Any, arguments: Sequence[str]) -> str | None:
    """Return an option with the value given by an argument or a variable; None if neither is found."""
    for name in parameter.opts:
        for argument, following in zip(arguments, [*arguments[1:], ""], strict=True):
            if argument == name:
                return f"{name} {following}"
            if argument.startswith(f"{name}=" if name.startswith("--") else name) and name.startswith("-"):
                return argument
    variable = parameter.envvar
    return f"{variable}={os.environ[variable]}" if isinstance(variable, str) and variable in os.environ else None
