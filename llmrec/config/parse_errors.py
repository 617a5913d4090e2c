"""Format errors of the settings parser as one sentence, with the setting that was probably meant."""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import Any

from llmrec.config.settings import list_names

UNKNOWN = (
    r"Group '(?P<section>[\w.]+)' does not accept option '(?P<name>[\w.]+)'",
    r"Option '(?P<name>[\w.]+)' is not accepted",
    r"unrecognized arguments: --(?P<name>[\w.]+)",
)
WRONG_TYPE = r'Parser key "(?P<name>[\w.]+)":\s+Expected an? <class \'(?P<type>\w+)\'>\. Got value: (?P<value>.*)'
TYPES = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "text", "tuple": "a list"}


def format_parse_error(message: str, kind: type[Any]) -> str:
    """Format an error of jsonargparse as one sentence.

    Args:
        message: Its message, which lists every alternative of a type.
        kind: Dataclass of the configuration, whose settings may be what was meant.

    Returns:
        The setting, what is wrong and what to give; the message itself if it is of another form.
    """
    outer = re.search(r'Parser key "([\w.]+)":\s+Does not validate', message)
    section = outer[1] if outer else ""
    for pattern in UNKNOWN:
        if found := re.search(pattern, message):
            name = ".".join(filter(None, [section, found.groupdict().get("section"), found["name"]]))
            return f"{name}: no such setting{suggest_setting(name, list_names(kind))}"
    if found := re.search(WRONG_TYPE, message):
        name = ".".join(filter(None, [section if section != found["name"] else "", found["name"]]))
        return f"{name}={found['value']}: give {TYPES.get(found['type'], found['type'])}"
    if found := re.search(r'Parser key "(?P<name>[\w.]+)":\s+(?P<rest>.*)', message, re.DOTALL):
        return f"{found['name']}: {' '.join(found['rest'].split())}"
    return message


def suggest_setting(name: str, known: list[str]) -> str:
    """Suggest the setting that was probably meant.

    Args:
        name: Name that does not exist.
        known: Names that do.

    Returns:
        End of a sentence; empty if no name is close.
    """
    last = name.rpartition(".")[2]
    same = [candidate for candidate in known if candidate.rpartition(".")[2] == last]
    close = same or get_close_matches(name, known, n=1) or _match_last(last, known)
    return f". Did you mean {' or '.join(close[:3])}?" if close else ""


def _match_last(last: str, known: list[str]) -> list[str]:
    """Return settings whose own name, without its section, is close to another."""
    close = get_close_matches(last, {name.rpartition(".")[2] for name in known}, n=1)
    return [name for name in known if name.rpartition(".")[2] in close]
