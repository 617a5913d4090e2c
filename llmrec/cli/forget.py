"""The command forget. Heavy imports wait inside the function."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from llmrec.cli.options import (
    LOG_SETTINGS,
    BackboneOption,
    BundleArgument,
    JsonOption,
    RevisionOption,
    SettingsCommand,
)
from llmrec.errors import ConfigError

app = typer.Typer()


@app.command(cls=SettingsCommand, epilog=LOG_SETTINGS)
def forget(
    context: typer.Context,
    bundle: BundleArgument,
    user: Annotated[
        list[str], typer.Option(metavar="ID", help="User to remove, by id or pseudonym; repeat for several.")
    ],
    *,
    output: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="New folder for the log, bundle and states without the users. [default: none]"
        ),
    ] = None,
    in_place: Annotated[
        bool, typer.Option("--in-place", help="Change the log, bundle and states themselves. [default: off]")
    ] = False,
    state: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Saved state of live users; repeat for several. [default: none]"),
    ] = None,
    store: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Event store, sqlite:///FILE or postgresql://USER@HOST/NAME; with --in-place only. [default: none]",
        ),
    ] = None,
    snapshot_dir: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Folder of the store's snapshots. [default: next to a SQLite store]"),
    ] = None,
    backbone: BackboneOption = None,
    revision: RevisionOption = None,
    json_output: JsonOption = False,
) -> None:
    """Remove users from a log, a bundle and its states.

    Shows what remains of them. The exit status is 1 if an id is found in a file that should not hold it any more.
    """
    from llmrec.cli.inputs import find_bundle
    from llmrec.cli.render import render_json, render_lines
    from llmrec.cli.settings import parse_data_settings
    from llmrec.reports.unlearning_text import format_forget_result
    from llmrec.service.server import default_snapshot_dir
    from llmrec.unlearning.unlearn import ForgetRequest, forget_users

    if (output is None) != in_place:
        raise ConfigError("give --output FOLDER for copies without the users, or --in-place; one of the two")
    if store is not None and snapshot_dir is None:
        snapshot_dir = default_snapshot_dir(store)
    if in_place and revision is not None:
        raise ConfigError("--revision: --in-place changes a bundle in a folder. Give --output FOLDER, or no revision.")
    folder = Path(bundle) if in_place else find_bundle(bundle, revision)
    data = parse_data_settings(context.args)
    states = tuple(state or ())
    result = forget_users(ForgetRequest(folder, tuple(user), data, output, states, store, snapshot_dir, backbone))
    if json_output:
        render_json(result)
    else:
        render_lines(format_forget_result(result))
    if result.traces:
        raise typer.Exit(1)
