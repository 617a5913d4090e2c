"""The commands init and audit. Heavy imports wait inside the functions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from llmrec.cli.options import JsonOption, SettingsCommand
from llmrec.errors import ConfigError

app = typer.Typer()
SHOWN_TEXTS = 10
INIT_SETTINGS = "What is guessed wrong can be given as --data.KEY VALUE, such as --data.user_column NAME."
AUDIT_SETTINGS = (
    "Settings of the log follow as --data.KEY VALUE and --split.KEY VALUE; `llmrec settings train data` lists them."
)


@app.command(cls=SettingsCommand, epilog=INIT_SETTINGS)
def init(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder with a file of events and a file of items.")],
    *,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="YAML file to write. [default: FOLDER's name with .yaml]")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it is there. [default: off]")] = False,
    json_output: JsonOption = False,
) -> None:
    """Write a configuration for a folder of data.

    Guesses files, columns and item texts, shows ten of these, audits the log, and writes the reasons as comments.
    """
    from llmrec.cli.render import render_json, render_lines
    from llmrec.cli.settings import parse_given_settings
    from llmrec.config.order_only import choose_splits
    from llmrec.config.split import SplitConfig
    from llmrec.data.audit import audit_log
    from llmrec.data.log_proposal import propose_log
    from llmrec.data.splits import make_split
    from llmrec.reports.audit_text import format_audit
    from llmrec.reports.config_text import render_init_config
    from llmrec.utils.atomic_files import write_text_atomic

    path = output or Path(f"{folder.resolve().name}.yaml")
    if path.exists() and not force:
        raise ConfigError(f"{path}: it is there already. Give --output FILE, or --force to replace it.")
    proposal = propose_log(folder, parse_given_settings(context.args))
    log = proposal.log
    name = choose_splits(SplitConfig(), proposal.config).names[0]
    part, _ = make_split(name, log.interactions, log.n_users, log.n_items, config=SplitConfig())
    texts, found = log.catalog.text_array[:SHOWN_TEXTS].to_pylist(), audit_log(log, part)
    write_text_atomic(path, render_init_config(proposal, path))
    if json_output:
        settings = {name: getattr(proposal.config, name) for name in proposal.reasons}
        facts = {"settings": settings, "reasons": proposal.reasons, "texts": texts, "audit": found.to_dict()}
        render_json({"config": str(path), **facts})
        return
    shown = [f"  {text}" for text in texts]
    render_lines(["item texts as the model reads them:", *shown, "", *format_audit(found)])
    render_lines(["", f"wrote {path}; read it, then: llmrec train --config {path}"])


@app.command(cls=SettingsCommand, epilog=AUDIT_SETTINGS)
def audit(context: typer.Context, *, json_output: JsonOption = False) -> None:
    """Audit a log: ties, repeats, leakage, cold items.

    Also counts what leave-one-out would hide, and personal details in texts.

    Example: llmrec audit --data.source movielens_small
    """
    from llmrec.cli.render import render_json, render_lines
    from llmrec.cli.settings import parse_log_settings
    from llmrec.config.order_only import choose_splits
    from llmrec.config.split import SplitConfig
    from llmrec.data.audit import audit_log
    from llmrec.data.loading import load_log
    from llmrec.data.splits import make_split
    from llmrec.reports.audit_text import format_audit

    data, split = parse_log_settings(context.args)
    if data is None:
        raise ConfigError("no log: give --data.source FOLDER, hub:OWNER/NAME or movielens_small")
    split = choose_splits(split or SplitConfig(), data)
    log = load_log(data)
    name = "by_time" if log.facts.has_times else split.names[0]
    part, _ = make_split(name, log.interactions, log.n_users, log.n_items, config=split)
    found = audit_log(log, part)
    if json_output:
        render_json(found.to_dict())
    else:
        render_lines(format_audit(found))
