"""The `llmrec` command. Heavy imports wait inside the verbs, so that help comes at once."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import is_dataclass
from importlib import import_module
from inspect import signature
from typing import Any

from llmrec.config.validation import validate_bounds, validate_utf8
from llmrec.utils.exit_status import exit_with_message
from llmrec.utils.run_logging import ConsoleHandler, add_console_handler, enable_debug_output, remove_handlers

VERBS: dict[str, str] = {
    "recommend": "ten recommendations for a history, or for a user of the bundle's log",
    "score": "how much a history calls for given items: of the catalog, or from their text alone",
    "explain": "why a history calls for an item: by its events, by what is popular, by where people went on to",
    "similar": "items like one: of the catalog or from its text, also in another bundle's catalog",
    "friends": "users of the log who are like a user or a history, and what they have in common",
    "topics": "how a user's interest, or an item, divides among topics that are given in words",
    "audience": "which users to show an item to, a new one from its text",
    "drift": "how a user's interest moved, where it is going, and what the crowd went on to from there",
    "evaluate": "rank the test part of a log again with a saved bundle",
    "serve": "answer over HTTP, from a bundle and a store of events; options also as LLMREC_BUNDLE, LLMREC_PORT, ...",
    "demo": "a page in the browser: recommendations, interest over time, and who would want a new item",
    "push": "put a bundle on the Hugging Face hub, from where others load it by name",
    "export": "a bundle's text encoder by itself, as a folder that sentence-transformers loads",
    "plan": "time and memory of a run by each strategy, and which one to use; afterwards, how true that was",
    "forget": "take users out of a log, a bundle's counts, states and a store; says what stays, and looks for traces",
    "audit": "what a log hides: ties, repeats, leakage, cold items, what leave-one-out would not show",
}
HOMES: dict[str, str] = {  # the function of each verb, in a module of its family
    "recommend": "recommend.recommend",
    "score": "recommend.score",
    "explain": "recommend.explain",
    "similar": "explore.similar_items",
    "friends": "explore.similar_users",
    "topics": "explore.topics",
    "audience": "explore.audience",
    "drift": "explore.drift",
    "evaluate": "evaluate.evaluate",
    "serve": "serve.serve",
    "demo": "serve.demo",
    "push": "hub.push",
    "export": "hub.export",
    "plan": "plan.plan",
    "forget": "forget.forget",
    "audit": "data.audit",
}
SHORT = {"-k": ["--k"], "--json": ["--as_json", "true"]}
SWITCHES = ("--private", "--words", "--in_place")  # alone, they mean yes
FROM_ENVIRONMENT = ("serve", "demo")  # whose options may come as LLMREC_... as well
MANY = ("--history", "--item", "--text", "--label", "--where")
MANY_OF = {"forget": ("--user", "--state")}


def main(arguments: list[str] | None = None) -> None:
    """Run a verb; what the user can mend ends in one message and exit status 2, all else in one and 1."""
    given = sys.argv[1:] if arguments is None else arguments
    verbose = "--verbose" in given
    given = [argument for argument in given if argument != "--verbose"]  # it may stand before a verb or after
    with exit_with_message(f"llmrec {given[0]}" if given[:1] and given[0] in VERBS else "llmrec"):
        validate_utf8(given)
        function, chosen = _parsed(_with_environment(_written_out(given)))
        if verbose:  # warnings come anyway
            add_console_handler()
            enable_debug_output()
        try:
            function(**chosen)
        finally:
            remove_handlers(ConsoleHandler)


def _parsed(arguments: list[str]) -> tuple[Callable[..., None], dict[str, Any]]:
    """The function of a verb and what to call it with. Exits with usage and the reason where an argument is wrong."""
    from jsonargparse import ArgumentParser

    from llmrec.config.strict_yaml import register_strict_yaml

    mode = register_strict_yaml()
    parser = ArgumentParser(prog="llmrec", description="Pretrained language models as recommenders.", parser_mode=mode)
    parser.add_argument("--verbose", action="store_true", help="tell of everything that is done, with times")
    verbs = parser.add_subcommands(required=True)
    for name, purpose in VERBS.items():
        verb = ArgumentParser(description=purpose[0].upper() + purpose[1:] + ".", parser_mode=mode)
        if name in arguments:  # reading signatures takes longer than all the rest
            verb.add_function_arguments(_function(name), as_group=False)
        verbs.add_subcommand(name, verb, help=purpose)
    try:
        parsed: Any = parser.instantiate(parser.parse_args(arguments))
    except ValueError as error:  # of a configuration that contradicts itself
        parser.error(str(error))
    chosen = vars(parsed[parsed.subcommand])
    for name, section in chosen.items():
        if is_dataclass(section):
            validate_bounds(section, f"{name}.")
    return _function(parsed.subcommand), chosen


def _written_out(arguments: list[str]) -> list[str]:
    """`--history a b` as the one JSON list that the parser takes; `-k` and `--json` by their long names, dashes in
    names, as in `--looking-for`, as the parser has them, and `--private` or `--words` alone with their value.
    """
    written, rest, verb = list[str](), list(arguments), next(iter(arguments), "")
    while rest:
        flag, values = rest.pop(0), list[str]()
        if flag.startswith("--"):
            name, *value = flag[2:].split("=", 1)
            flag = "--" + "=".join([name.replace("-", "_"), *value])
        written += SHORT.get(flag, [flag])
        if flag in SWITCHES and (not rest or rest[0].startswith("-")):
            written.append("true")
        if flag not in (*MANY, *MANY_OF.get(verb, ())):
            continue
        while rest and not rest[0].startswith("-"):
            values.append(rest.pop(0))
        one_list = len(values) == 1 and values[0].startswith("[")
        written.append(values[0] if one_list else json.dumps(values))
    return written


def _with_environment(arguments: list[str]) -> list[str]:
    """With the options of a verb that stand in the environment and were not written."""
    if not arguments or arguments[0] not in FROM_ENVIRONMENT:
        return arguments
    written = {argument.partition("=")[0] for argument in arguments}
    names = [name for name in signature(_function(arguments[0])).parameters if f"--{name}" not in written]
    found = {name: os.environ[f"LLMREC_{name.upper()}"] for name in names if f"LLMREC_{name.upper()}" in os.environ}
    return [*arguments, *(f"--{name}={value}" for name, value in found.items())]


def _function(name: str) -> Callable[..., None]:
    module, _, function_name = HOMES[name].partition(".")
    function: Callable[..., None] = getattr(import_module(f"llmrec.cli.{module}"), function_name)
    return function
