"""Arguments and options that several commands share, and the class of commands with dotted settings."""

from __future__ import annotations

import re
from collections.abc import Container
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

DOTTED = re.compile(r"--[a-z_]+(?:\.\w+)+")
SWITCHES = ("--print_config", "--print-config")  # of the parser of settings, without a value
LOG_SETTINGS = (
    "Settings of the log follow as --data.KEY VALUE, such as --data.source FOLDER; those that are not given are the "
    "bundle's. `llmrec settings evaluate data` lists them."
)

BundleArgument = Annotated[
    str,
    typer.Argument(
        metavar="BUNDLE",
        show_default=False,
        help="Folder of a saved recommender, or OWNER/NAME on the Hugging Face hub.",
    ),
]
HistoryArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="ITEM", show_default=False, help="Item ids of the history, oldest first."),
]
UserOption = Annotated[
    str | None,
    typer.Option("--user", metavar="ID", help="User of the log, in place of a history. [default: none]"),
]
ItemsOption = Annotated[
    list[str] | None, typer.Option("--item", metavar="ID", help="Catalog item; repeat for several. [default: none]")
]
ItemOption = Annotated[list[str] | None, typer.Option("--item", metavar="ID", help="Catalog item. [default: none]")]
TextsOption = Annotated[
    list[str] | None,
    typer.Option("--text", metavar="TEXT", help="Text of an item of no catalog; repeat for several. [default: none]"),
]
TextOption = Annotated[
    list[str] | None, typer.Option("--text", metavar="TEXT", help="Text of an item of no catalog. [default: none]")
]
CountOption = Annotated[int, typer.Option("-k", "--k", metavar="N", help="Number of results.")]
TimeOption = Annotated[
    str | None,
    typer.Option(
        "--at",
        metavar="TIME",
        help="Query time in ISO 8601; events at or after it are left out. [default: after the last event]",
    ),
]
BackboneOption = Annotated[
    str | None,
    typer.Option("--backbone", metavar="PATH", help="Local copy of the base model. [default: as the bundle says]"),
]
RevisionOption = Annotated[
    str | None,
    typer.Option("--revision", metavar="NAME", help="Branch, tag or commit of a bundle on the hub. [default: main]"),
]
HistoryBundleOption = Annotated[
    str | None,
    typer.Option(
        "--history-bundle",
        metavar="BUNDLE",
        help="Bundle of another domain, whose items the history holds or whose log the user is in. [default: BUNDLE]",
    ),
]
HistoryRevisionOption = Annotated[
    str | None,
    typer.Option(
        "--history-bundle-revision", metavar="NAME", help="Branch, tag or commit of --history-bundle. [default: main]"
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON. [default: text]")]
OutputFolder = Annotated[
    Path | None, typer.Option("--output", metavar="FOLDER", help="Folder for figures. [default: none]")
]


class SettingsCommand(TyperCommand):
    """Command that also takes dotted settings, such as `--data.source FOLDER`, as `Context.args`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the command's own arguments, and keep dotted settings aside.

        Args:
            ctx: Context of the command.
            args: Arguments after the command's name.

        Returns:
            Arguments that are left, none.
        """
        own, settings = split_settings(args)
        rest = super().parse_args(ctx, own)
        ctx.args = settings
        return rest


def split_settings(arguments: list[str], own_options: Container[str] | None = None) -> tuple[list[str], list[str]]:
    """Separate settings and their values from a command's own arguments.

    Args:
        arguments: Arguments of a command; those after `--` are its own.
        own_options: Options of the command: every other one is a setting; None: dotted ones are.

    Returns:
        Arguments of the command, and settings.

    Example:
        >>> split_settings(["i1", "--data.source", "a", "-k", "3", "--data.k_core=5", "--", "--data.x"])
        (['i1', '-k', '3', '--', '--data.x'], ['--data.source', 'a', '--data.k_core=5'])
    """
    own, settings, rest = list[str](), list[str](), list(arguments)
    while rest:
        argument = rest.pop(0)
        if argument == "--":
            return [*own, argument, *rest], settings
        name, equals, value = argument.partition("=")
        dotted = DOTTED.fullmatch(name)
        if not (dotted if own_options is None else name.startswith("--") and name not in own_options):
            own.append(argument)
            continue
        settings.append(name.replace("-", "_").replace("__", "--", 1) + equals + value)
        if not equals and rest and name not in SWITCHES:
            settings.append(rest.pop(0))
    return own, settings
