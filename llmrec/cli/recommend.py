"""The commands recommend, score and explain. Heavy imports wait inside the functions."""

from __future__ import annotations

from typing import Annotated

import typer

from llmrec.cli.options import (
    LOG_SETTINGS,
    BackboneOption,
    BundleArgument,
    CountOption,
    HistoryArgument,
    HistoryBundleOption,
    HistoryRevisionOption,
    ItemOption,
    ItemsOption,
    JsonOption,
    RevisionOption,
    SettingsCommand,
    TextOption,
    TextsOption,
    TimeOption,
    UserOption,
)
from llmrec.errors import ConfigError

app = typer.Typer()


@app.command(cls=SettingsCommand, epilog=LOG_SETTINGS)
def recommend(
    context: typer.Context,
    bundle: BundleArgument,
    *,
    history: HistoryArgument = None,
    user: UserOption = None,
    count: CountOption = 10,
    query: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="What the user wants, in words, in addition to the history. [default: none]"),
    ] = None,
    filters: Annotated[
        list[str] | None,
        typer.Option(
            "--filter",
            metavar="FIELD=VALUE",
            help="Only items with this value, or FIELD~PART for a part of it; repeat to narrow. [default: all items]",
        ),
    ] = None,
    topic: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="Only the tenth of the catalog nearest to these words. [default: all items]"),
    ] = None,
    include_seen: Annotated[
        bool | None,
        typer.Option(
            "--include-seen/--hide-seen",
            show_default=False,
            help="Items of the history too, or new ones only. [default: as the bundle was evaluated]",
        ),
    ] = None,
    at: TimeOption = None,
    history_bundle: HistoryBundleOption = None,
    history_bundle_revision: HistoryRevisionOption = None,
    backbone: BackboneOption = None,
    revision: RevisionOption = None,
    json_output: JsonOption = False,
) -> None:
    """Recommend items for a history or a user of the log.

    Without history, user and query, the answer is for a new user.
    """
    from llmrec.cli.inputs import load_recommender, refuse_history_and_user, resolve_history
    from llmrec.cli.render import render_history, render_json, render_note, render_ranking
    from llmrec.cli.settings import parse_data_settings

    refuse_history_and_user(history, user)
    data = parse_data_settings(context.args)
    recommender = load_recommender(bundle, backbone, revision=revision)
    events = resolve_history(
        recommender,
        history,
        user,
        data=data,
        at=at,
        history_bundle=history_bundle,
        history_revision=history_bundle_revision,
    )
    if not history and user is None and query is None:
        render_note("no history, no --user and no --query: these are for a new user")
    found = recommender.recommend(
        events, k=count, at=at, include_seen=include_seen, query=query, filters=filters or None, topic=topic
    )
    if json_output:
        render_json(found)
        return
    render_history(recommender, events, query=query)
    render_ranking(found)


@app.command(cls=SettingsCommand, epilog=LOG_SETTINGS)
def score(
    context: typer.Context,
    bundle: BundleArgument,
    *,
    history: HistoryArgument = None,
    user: UserOption = None,
    item: ItemsOption = None,
    text: TextsOption = None,
    at: TimeOption = None,
    history_bundle: HistoryBundleOption = None,
    history_bundle_revision: HistoryRevisionOption = None,
    backbone: BackboneOption = None,
    revision: RevisionOption = None,
    json_output: JsonOption = False,
) -> None:
    """Score items for a history or a user of the log.

    Shows the rank that each would have in the catalog.
    """
    from llmrec.cli.inputs import load_recommender, refuse_history_and_user, resolve_history
    from llmrec.cli.render import render_history, render_json, render_table
    from llmrec.cli.settings import parse_data_settings
    from llmrec.inference.score_units import UNIT_HEADS, format_score

    known, texts = item or [], text or []
    if not known and not texts:
        raise ConfigError("nothing to score: give --item ID, or --text '...' for an item that is in no catalog")
    refuse_history_and_user(history, user)
    data = parse_data_settings(context.args)
    recommender = load_recommender(bundle, backbone, revision=revision)
    events = resolve_history(
        recommender,
        history,
        user,
        data=data,
        at=at,
        history_bundle=history_bundle,
        history_revision=history_bundle_revision,
    )
    scores = recommender.score(events, [*known, *({"text": words} for words in texts)], at=at)
    everything = recommender.recommend(events, k=len(recommender.catalog), at=at, include_seen=True)
    ranked = [found.score for found in everything]
    unit, names = recommender.catalog.score_unit, [*known, *texts]
    sizes = [len(ranked)] * len(known) + [len(ranked) + 1] * len(texts)  # an item of no catalog adds one
    results = [
        {"item": name, "score": value, "unit": unit, "place": 1 + sum(other > value for other in ranked), "of": size}
        for name, value, size in zip(names, scores, sizes, strict=True)
    ]
    if json_output:
        render_json(results)
        return
    render_history(recommender, events)
    labels = [f"{recommender.catalog.label(id_)}  [{id_}]" for id_ in known] + texts
    heads = [UNIT_HEADS[unit], "rank", "item"]
    cells = [
        [format_score(value, unit), f"{row['place']:,} of {row['of']:,}", label]
        for value, row, label in zip(scores, results, labels, strict=True)
    ]
    render_table(heads, cells, [", ".join(heads), *("  ".join(row) for row in cells)], n_numbers=2)


@app.command(cls=SettingsCommand, epilog=LOG_SETTINGS)
def explain(
    context: typer.Context,
    bundle: BundleArgument,
    *,
    history: HistoryArgument = None,
    user: UserOption = None,
    item: ItemOption = None,
    text: TextOption = None,
    tokens: Annotated[
        bool,
        typer.Option("--tokens", help="Also attribute the score to words of the item's text (extra: explain)."),
    ] = False,
    at: TimeOption = None,
    backbone: BackboneOption = None,
    revision: RevisionOption = None,
    json_output: JsonOption = False,
) -> None:
    """Explain an item's score by parts that add up.

    Parts are events of the history, what is popular and where others went on to.
    Without --item and --text, the item is the one that would be recommended first.
    """
    from llmrec.cli.inputs import load_recommender, parse_item, require_history_or_user, resolve_history
    from llmrec.cli.render import render_json, render_lines
    from llmrec.cli.settings import parse_data_settings

    require_history_or_user(history, user)
    requested = parse_item(item, text) if item or text else None
    data = parse_data_settings(context.args)
    recommender = load_recommender(bundle, backbone, revision=revision)
    events = resolve_history(recommender, history, user, data=data, at=at)
    if requested is None:
        requested = recommender.recommend(events, k=1, at=at)[0].item
    found = recommender.explain(events, requested, at=at, tokens=tokens)
    if json_output:
        render_json(found)
    else:
        render_lines([repr(found)])
