"""Verbs of the `llmrec` command about the people in a log.

What is heavy is imported inside.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from llmrec.config.data import DataConfig
from llmrec.errors import ConfigError


def forget(
    bundle: Path,
    user: list[str] | str,
    data: DataConfig | None = None,
    output: Path | None = None,
    in_place: bool = False,
    state: list[str] | str | None = None,
    store: str | None = None,
    snapshots: Path | None = None,
    backbone: str | None = None,
    as_json: bool = False,
) -> None:
    """Forget users: write their log, bundle and states without them, delete them from a store, and say what stays.

    Ends with status 1 where an id is found in a file that was to be without it.

    Args:
        bundle: the folder of a saved recommender; its counts are taken anew from the log that is left.
        user: an id, or several; with pseudonyms the id or the pseudonym.
        data: where the log is; settings that are not given are the bundle's.
        output: a new folder, for the log, the bundle and the states without the users; nothing else is changed.
        in_place: change the log, the bundle and the states where they are instead; --in-place for short.
        state: a file of saved live users (`save_state`), or several.
        store: of events, sqlite:///FILE or postgresql://USER@HOST/NAME; in place only.
        snapshots: the folder of the store's saved states; beside a SQLite store unless given.
        backbone: a local copy of the base model, for bundles whose backbone encodes histories.
        as_json: print JSON; --json for short.
    """
    from llmrec.cli.inputs import as_list
    from llmrec.reports.unlearning_text import format_forget_result
    from llmrec.service.server import default_snapshot_dir
    from llmrec.unlearning.unlearn import ForgetRequest
    from llmrec.unlearning.unlearn import forget_users as forget_users

    if (output is None) != in_place:
        raise ConfigError("give --output FOLDER for copies without them, or --in-place; one of the two")
    if store is not None and snapshots is None:
        snapshots = default_snapshot_dir(store)
    states = tuple(map(Path, as_list(state)))
    done = forget_users(ForgetRequest(bundle, tuple(as_list(user)), data, output, states, store, snapshots, backbone))
    print(json.dumps(asdict(done), ensure_ascii=False) if as_json else "\n".join(format_forget_result(done)))
    if done.traces:
        raise SystemExit(1)
