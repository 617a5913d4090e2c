"""The commands similar, friends, topics, audience and drift.

What is heavy is imported inside.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Literal

from llmrec.config.data import DataConfig
from llmrec.errors import ConfigError

MAX_SHOWN = 3


def similar(
    bundle: Path,
    item: list[str] | str | None = None,
    text: list[str] | str | None = None,
    of: Literal["text", "model"] = "text",
    other: Path | None = None,
    k: int = 10,
    backbone: str | None = None,
    as_json: bool = False,
) -> None:
    """Print the items most like one.

    Args:
        bundle: the folder of a saved recommender.
        item: id of a catalog item.
        text: text of an item that is in no catalog, instead.
        of: `text`, what is written of them; `model`, how the model has learned to see them.
        other: a bundle of another domain, to look in its catalog; it must read with the same backbone.
        k: how many items; -k for short.
        backbone: a local copy of the base model.
        as_json: print JSON; --json for short.
    """
    from llmrec.cli.inputs import load_recommender, parse_item
    from llmrec.cli.render import render_json, render_ranking

    recommender = load_recommender(bundle, backbone)
    there = None if other is None else load_recommender(other, backbone)
    asked = parse_item(item, text)
    found = recommender.similar_items(asked, k=k, by=of, catalog=None if there is None else there.catalog)
    if as_json:
        render_json(found)
        return
    print(f"like {recommender.catalog.label(asked)}, by {of}{'' if other is None else f', in {other}'}")
    render_ranking(found)


def friends(
    bundle: Path,
    user: str | None = None,
    history: list[str] | str | None = None,
    k: int = 10,
    at: str | None = None,
    data: DataConfig | None = None,
    backbone: str | None = None,
    as_json: bool = False,
) -> None:
    """Print the users most like one, and what they have in common.

    Args:
        bundle: the folder of a saved recommender.
        user: a user id of the log; the log is the one the bundle was trained on unless `data` names another.
        history: item ids instead, oldest first: --history ID ID ...
        k: how many users; -k for short.
        at: the query time, ISO; events of anybody at or after it are left out.
        data: where the log is; settings that are not given are the bundle's.
        backbone: a local copy of the base model.
        as_json: print JSON; --json for short.
    """
    from llmrec.cli.inputs import as_list, load_recommender, require_history_or_user
    from llmrec.cli.render import render_json

    require_history_or_user(history, user)
    recommender = load_recommender(bundle, backbone)
    who = user if user is not None else list(as_list(history))
    log = recommender.training_log(data)
    found = recommender.similar_users(who, k=k, at=at, log=log)
    if as_json:
        render_json(found)
        return
    print(f"like {f'user {log.names.pseudonym(user)}' if user is not None else 'this history'}")
    width = max([len(one.user) for one in found], default=0)
    for one in found:
        shared = "; ".join(recommender.catalog.label(item) for item in one.shared[:MAX_SHOWN])
        told = f"{one.n_shared:>4,} shared{f': {shared}' if shared else ''}"
        print(f"{one.rank:>3}  {one.similarity:8.3f}  user {one.user:<{width}}  {one.n_events:>6,} events  {told}")
        for pair in one.alike[:MAX_SHOWN]:
            mine, theirs = recommender.catalog.label(pair.mine), recommender.catalog.label(pair.theirs)
            print(f"{'':>7}{pair.similarity:8.3f}  {mine} ~ {theirs}")


def topics(
    bundle: Path,
    label: list[str] | str,
    history: list[str] | str | None = None,
    user: str | None = None,
    item: list[str] | str | None = None,
    template: str = "{label}",
    at: str | None = None,
    data: DataConfig | None = None,
    backbone: str | None = None,
    as_json: bool = False,
) -> None:
    """Print how a user's interest, or an item, divides among topics.

    Args:
        bundle: the folder of a saved recommender.
        label: the topics, in words: --label horror 'romantic comedy' ...
        history: item ids, oldest first: --history ID ID ...
        user: a user id of the log instead; the log is the one the bundle was trained on unless `data` names another.
        item: ids of items instead, each of which is told by itself.
        template: what is read in a label's place, such as 'a {label} film'.
        at: the query time, ISO; events at or after it are left out.
        data: where the user's log is; settings that are not given are the bundle's.
        backbone: a local copy of the base model.
        as_json: print JSON; --json for short.
    """
    from llmrec.cli.inputs import as_list, load_recommender, resolve_history
    from llmrec.cli.render import render_history, render_json

    if item is not None and (history is not None or user is not None):
        raise ConfigError("give either --item ID ..., or one of --history ID ... and --user ID")
    recommender = load_recommender(bundle, backbone)
    labels, items = as_list(label), as_list(item)
    if items:
        found = recommender.item_topics(items, labels, template=template)
        rows = {one: [asdict(share) for share in shares] for one, shares in zip(items, found, strict=True)}
        if as_json:
            print(json.dumps(rows, ensure_ascii=False))
            return
        for one, shares in zip(items, found, strict=True):
            told = "  ".join(f"{share.share:4.0%} {share.label}" for share in shares[:MAX_SHOWN])
            print(f"{recommender.catalog.label(one)}  [{one}]\n  {told}")
        return
    events = resolve_history(recommender, history, user, data, at)
    of_user = recommender.topics(events, labels, at=at, template=template)
    if as_json:
        render_json(of_user)
        return
    render_history(recommender, events)
    for share in of_user:
        print(f"{share.share:6.1%}  {share.label}")


def audience(
    bundle: Path,
    item: list[str] | str | None = None,
    text: list[str] | str | None = None,
    k: int = 10,
    at: str | None = None,
    data: DataConfig | None = None,
    backbone: str | None = None,
    as_json: bool = False,
) -> None:
    """Print the users to show an item to: those whose next it is likeliest to be, among all there is for them.

    Args:
        bundle: the folder of a saved recommender.
        item: id of a catalog item; users who have it are left out.
        text: text of a new item instead.
        k: how many users; -k for short.
        at: the query time, ISO; events of anybody at or after it are left out.
        data: where the log is; default: the one the bundle was trained on. Settings not given are the bundle's.
        backbone: a local copy of the base model.
        as_json: print JSON; --json for short.
    """
    from llmrec.cli.inputs import load_recommender, parse_item
    from llmrec.cli.render import render_json
    from llmrec.utils.text import format_table

    recommender = load_recommender(bundle, backbone)
    asked = parse_item(item, text)
    found = recommender.audience(asked, k=k, at=at, log=recommender.training_log(data))
    if as_json:
        render_json(found)
        return
    print(f"for {recommender.catalog.label(asked)}")
    heads = ["user", "times the mean chance", f"place among {len(recommender.catalog):,}", "events"]
    rows = [[one.user, f"{one.lift:.1f}", f"{one.place:,}", f"{one.n_events:,}"] for one in found]
    print("\n".join(format_table([heads, *rows])))


def drift(
    bundle: Path,
    user: str,
    at: str | None = None,
    data: DataConfig | None = None,
    output: Path | None = None,
    as_json: bool = False,
) -> None:
    """Print a user's interest over time, where it is going, and what the crowd went on to, by the bundle's drift head.

    Args:
        bundle: the folder of a saved recommender that was trained with `drift`.
        user: a user id of the log; the log is the one the bundle was trained on unless `data` names another.
        at: the query time, ISO; events of anybody at or after it are left out. Default: after the user's last event.
        data: where the log is; settings that are not given are the bundle's. Its items must be those of the bundle.
        output: a folder for pictures.
        as_json: print JSON; --json for short.
    """
    from llmrec.inference.user_drift import load_user_drift
    from llmrec.reports.drift_figures import write_user_figures
    from llmrec.reports.drift_text import format_user_drift

    found = load_user_drift(bundle, user, at, data)
    print(json.dumps(asdict(found), ensure_ascii=False) if as_json else "\n".join(format_user_drift(found)))
    if output is not None:
        for path in write_user_figures(found, output):
            print(f"wrote {path}", file=sys.stderr)
