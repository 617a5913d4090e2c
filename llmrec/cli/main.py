"""The `llmrec` command: its families of commands, and how each of them ends."""

from __future__ import annotations

import sys
from typing import Annotated, Literal

import typer

from llmrec import __version__
from llmrec.cli import data, env, evaluate, explore, forget, hub, plan, recommend, serve, settings, train
from llmrec.cli.usage import format_usage_error
from llmrec.config.validation import validate_utf8
from llmrec.errors import ConfigError
from llmrec.utils.exit_status import INTERRUPTED, exit_with_message
from llmrec.utils.run_logging import ConsoleHandler, add_console_handler, enable_debug_output, remove_handlers

FAMILIES = (
    data,
    train,
    plan,
    evaluate,
    recommend,
    explore,
    serve,
    hub,
    forget,
    settings,
    env,
)  # in the order of the help
VERBOSE = "--verbose"


def build_app() -> typer.Typer:
    """Build the application: formatted help on a terminal, plain text elsewhere.

    Returns:
        The application with all commands.
    """
    markup: Literal["rich"] | None = "rich" if sys.stdout.isatty() else None
    app = typer.Typer(name="llmrec", rich_markup_mode=markup, help="Turn pretrained language models into recommenders.")
    app.callback()(configure)
    for family in FAMILIES:
        app.add_typer(family.app)
    return app


def print_version(*, requested: bool) -> None:
    """Print the version and exit, if requested.

    Args:
        requested: True if `--version` is given.

    Raises:
        typer.Exit: After the version is printed.
    """
    if requested:
        typer.echo(f"llmrec {__version__}")
        raise typer.Exit


def configure(
    *,
    verbose: Annotated[
        bool, typer.Option(VERBOSE, help="Log every step with its time; allowed after a command too. [default: off]")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Turn pretrained language models into recommenders."""
    if verbose:
        add_console_handler()
        enable_debug_output()


def main(arguments: list[str] | None = None) -> None:
    """Run a command; an error ends it with one message.

    Args:
        arguments: Arguments of the command line; None for those of the process. Without any, help is printed.

    Raises:
        SystemExit: With status 2 for errors that the user can fix, 1 for others and 130 for an interruption.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    command = typer.main.get_command(build_app())
    name = next((argument for argument in given if not argument.startswith("-")), "")
    with exit_with_message(f"llmrec {name}" if name in getattr(command, "commands", ()) else "llmrec"):
        validate_utf8(given)
        try:
            status = command.main(_move_verbose(given) or ["--help"], prog_name="llmrec", standalone_mode=False)
        except typer.TyperException as error:
            raise ConfigError(format_usage_error(error, name, given)) from error
        finally:
            remove_handlers(ConsoleHandler)
        if status == INTERRUPTED:
            raise KeyboardInterrupt
        if status:
            raise SystemExit(status)


def _move_verbose(arguments: list[str]) -> list[str]:
    """Put `--verbose` first, where the application takes it."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    options = [argument for argument in arguments[:end] if argument != VERBOSE]
    return [*([VERBOSE] if len(options) < end else []), *options, *arguments[end:]]
