"""The commands similar-items, similar-users, topics, audience and drift."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Literal

import typer

from llmrec.cli.options import (
    LOG_SETTINGS,
    BackboneOption,
    BundleArgument,
    CountOption,
    HistoryArgument,
    ItemOption,
    ItemsOption,
    JsonOption,
    OutputFolder,
    RevisionOption,
    SettingsCommand,
    TextOption,
    TimeOption,
    UserOption,
)
from llmrec.errors import ConfigError

app = typer.Typer()
MAX_SHOWN = 3


@app.command("similar-items")
def similar_items(
    bundle: BundleArgument,
    item: ItemOption = None,
    *,
    text: TextOption = None,
    by: Annotated[
        Literal["text", "model"],
        typer.Option(metavar="text|model", help="Compare texts, or the vectors that the model has learned."),
    ] = "text",
    in_bundle: Annotated[
        str | None,
        typer.Option(
            metavar="BUNDLE", help="Search another bundle's catalog; it needs the same backbone. [default: BUNDLE]"
        ),
    ] = None,
    in_bundle_revision: Annotated[
        str | None, typer.Option(metavar="NAME", help="Branch, tag or commit of --in-bundle. [default: main]")
    ] = None,
    count: CountOption = 10,
    backbone: BackboneOption = None,
    revision: RevisionOption = None,
    json_output: JsonOption = False,
) -> None:
    """List the items most similar to one.

    The item is of the catalog, or new and given by its text.
    """
    from llmrec.cli.inputs import load_recommender, parse_item
    from llmrec.cli.render import render_json, render_lines, render_ranking

    requested = parse_item(item, text)
    recommender = load_recommender(bundle, backbone, revision=revision)
    other = None if in_bundle is None else load_recommender(in_bundle, backbone, revision=in_bundle_revision)
    found = recommender.similar_items(requested, k=count, by=by, catalog=None if other is None else other.catalog)
    if json_output:
        render_json(found)
        return
    render_lines(
        [f"like {recommender.catalog.label(requested)}, by {by}{'' if other is None else f', in {in_bundle}'}"]
    )
    render_ranking(found)


@app.command("similar-users", cls=SettingsCommand, epilog=LOG_SETTINGS)
def similar_users(
    context: typer.Context,
    bundle: BundleArgument,
    *,
    history: HistoryArgument = None,
    user: UserOption = None,
    count: CountOption = 10,
    at: TimeOption = None,
    backbone: BackboneOption = None,
    revision: RevisionOption = None,
    json_output: JsonOption = False,
) -> None:
    """List the users most similar to a user or history.

    Shows the items that they share, and the most similar of the others.
    """
    from llmrec.cli.inputs import load_recommender, require_history_or_user
    from llmrec.cli.render import render_json, render_lines
    from llmrec.cli.settings import parse_data_settings

    require_history_or_user(history, user)
    data = parse_data_settings(context.args)
    recommender = load_recommender(bundle, backbone, revision=revision)
    log = recommender.training_log.read(data)
    found = recommender.similar_users(list(history or []) if user is None else user, k=count, at=at, log=log)
    if json_output:
        render_json(found)
        return
    lines = [f"like {f'user {log.names.pseudonym(user)}' if user is not None else 'this history'}"]
    width = max([len(row.user) for row in found], default=0)
    for row in found:
        shared = "; ".join(recommender.catalog.label(item) for item in row.shared[:MAX_SHOWN])
        counts = f"{row.n_events:>6,} events  {row.n_shared:>4,} shared{f': {shared}' if shared else ''}"
        lines.append(f"{row.rank:>3}  {row.similarity:8.3f}  user {row.user:<{width}}  {counts}")
        for pair in row.similar_pairs[:MAX_SHOWN]:
            first, second = recommender.catalog.label(pair.own), recommender.catalog.label(pair.other)
            lines.append(f"{'':>7}{pair.similarity:8.3f}  {first} ~ {second}")
    render_lines(lines)


@app.command(cls=SettingsCommand, epilog=LOG_SETTINGS)
def topics(
    context: typer.Context,
    bundle: BundleArgument,
    *,
    history: HistoryArgument = None,
    user: UserOption = None,
    item: ItemsOption = None,
    label: Annotated[
        list[str] | None,
        typer.Option(metavar="TEXT", help="A topic in words; repeat for each, at least two. [required]"),
    ] = None,
    template: Annotated[
        str, typer.Option(metavar="TEXT", help="Text that is read for a topic, such as 'a {label} film'.")
    ] = "{label}",
    at: TimeOption = None,
    backbone: BackboneOption = None,
    revision: RevisionOption = None,
    json_output: JsonOption = False,
) -> None:
    """Divide a user's interest, or items, among topics.

    Shares are in percent and add up to 100.
    """
    from llmrec.cli.inputs import load_recommender, require_history_or_user, resolve_history
    from llmrec.cli.render import render_history, render_json, render_lines
    from llmrec.cli.settings import parse_data_settings

    if not label:
        raise ConfigError("no topics: give at least two, --label TEXT --label TEXT")
    if item and (history or user is not None):
        raise ConfigError("give either --item ID, or a history or --user ID")
    if not item:
        require_history_or_user(history, user)
    data = parse_data_settings(context.args)
    recommender = load_recommender(bundle, backbone, revision=revision)
    if item:
        found = dict(zip(item, recommender.batch.item_topics(item, label, template=template), strict=True))
        if json_output:
            render_json(found)
            return
        for one, shares in found.items():
            best = "  ".join(f"{share.share:4.0%} {share.label}" for share in shares[:MAX_SHOWN])
            render_lines([f"{recommender.catalog.label(one)}  [{one}]", f"  {best}"])
        return
    events = resolve_history(recommender, history, user, data=data, at=at)
    of_user = recommender.topics(events, label, at=at, template=template)
    if json_output:
        render_json(of_user)
        return
    render_history(recommender, events)
    render_lines(f"{share.text:>6}  {share.label}" for share in of_user)


@app.command(cls=SettingsCommand, epilog=LOG_SETTINGS)
def audience(
    context: typer.Context,
    bundle: BundleArgument,
    *,
    item: ItemOption = None,
    text: TextOption = None,
    count: CountOption = 10,
    at: TimeOption = None,
    backbone: BackboneOption = None,
    revision: RevisionOption = None,
    json_output: JsonOption = False,
) -> None:
    """List the users to show an item to.

    They do not have it yet and are the most likely to choose it next, among all items.
    """
    from llmrec.cli.inputs import load_recommender, parse_item
    from llmrec.cli.render import render_json, render_lines
    from llmrec.cli.settings import parse_data_settings

    requested, data = parse_item(item, text), parse_data_settings(context.args)
    recommender = load_recommender(bundle, backbone, revision=revision)
    found = recommender.audience(requested, k=count, at=at, log=recommender.training_log.read(data))
    if json_output:
        render_json(found)
        return
    render_lines([f"for {recommender.catalog.label(requested)}, among {len(recommender.catalog):,} items", repr(found)])


@app.command(cls=SettingsCommand, epilog=LOG_SETTINGS)
def drift(
    context: typer.Context,
    bundle: BundleArgument,
    user: Annotated[str, typer.Option(metavar="ID", help="User of the log.")],
    *,
    at: TimeOption = None,
    output: OutputFolder = None,
    revision: RevisionOption = None,
    json_output: JsonOption = False,
) -> None:
    """Show a user's interests over time and a forecast.

    The forecast is for 30 days, by the bundle's drift head; recent transitions of others follow.
    """
    from llmrec.cli.inputs import find_bundle
    from llmrec.cli.render import render_json, render_lines, render_note
    from llmrec.cli.settings import parse_data_settings
    from llmrec.inference.user_drift import load_user_drift
    from llmrec.reports.drift_figures import write_user_figures
    from llmrec.reports.drift_text import format_user_drift

    data = parse_data_settings(context.args)
    found = load_user_drift(find_bundle(bundle, revision), user, at, data)
    if json_output:
        render_json(asdict(found))
    else:
        render_lines(format_user_drift(found))
    if output is not None:
        for path in write_user_figures(found, output):
            render_note(f"wrote {path}")
