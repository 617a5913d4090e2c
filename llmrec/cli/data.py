"""The command audit. Heavy imports wait inside the function."""

from __future__ import annotations

import typer

from llmrec.cli.options import JsonOption, SettingsCommand
from llmrec.errors import ConfigError

app = typer.Typer()
AUDIT_SETTINGS = (
    "Settings of the log follow as --data.KEY VALUE and --split.KEY VALUE; `llmrec settings train data` lists them."
)


@app.command(cls=SettingsCommand, epilog=AUDIT_SETTINGS)
def audit(context: typer.Context, json_output: JsonOption = False) -> None:
    """Audit a log: ties, repeats, leakage, cold items.

    Also counts what leave-one-out would hide, and personal details in texts.

    Example: llmrec audit --data.source movielens_small
    """
    from llmrec.cli.render import render_json, render_lines
    from llmrec.cli.settings import parse_log_settings
    from llmrec.config.split import SplitConfig
    from llmrec.data.audit import audit_log
    from llmrec.data.loading import load_log
    from llmrec.data.splits import make_split
    from llmrec.reports.audit_text import format_audit

    data, split = parse_log_settings(context.args)
    if data is None:
        raise ConfigError("no log: give --data.source FOLDER, hub:OWNER/NAME or movielens_small")
    log = load_log(data)
    part, _ = make_split("by_time", log.interactions, log.n_users, log.n_items, split or SplitConfig())
    found = audit_log(log, part)
    if json_output:
        render_json(found.to_dict())
    else:
        render_lines(format_audit(found))
