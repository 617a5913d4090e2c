"""The commands recommend, score and explain.

What is heavy is imported inside: the command line reads these signatures, types included, for every help.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from llmrec.config.data import DataConfig
from llmrec.errors import ConfigError


def recommend(
    bundle: Path,
    history: list[str] | str | None = None,
    user: str | None = None,
    k: int = 10,
    at: str | None = None,
    data: DataConfig | None = None,
    domain: Path | None = None,
    looking_for: str | None = None,
    where: list[str] | str | None = None,
    topic: str | None = None,
    backbone: str | None = None,
    as_json: bool = False,
) -> None:
    """Print the items that score highest.

    Args:
        bundle: the folder of a saved recommender.
        history: item ids, oldest first: --history ID ID ...; none for a user without history.
        user: a user id of the log instead; the log is the one the bundle was trained on unless `data` names another.
        k: how many items; -k for short.
        at: the query time, ISO; events at or after it are left out. Default: after the last event.
        data: where the user's log is; settings that are not given are the bundle's.
        domain: a bundle of another domain, whose items the history holds, or whose log the user is in.
        looking_for: what the user says to want, in words, on top of the history or in place of one.
        where: only items with this, such as category=Soap, or genres~drama for a part of the field; or several.
        topic: only the tenth of the catalog that is nearest to these words.
        backbone: a local copy of the base model.
        as_json: print JSON; --json for short.
    """
    from llmrec.cli.inputs import as_list, load_recommender, resolve_history
    from llmrec.cli.render import render_history, render_json, render_ranking

    recommender = load_recommender(bundle, backbone)
    newcomer = looking_for is not None and history is None and user is None
    events = [] if newcomer else resolve_history(recommender, history, user, data, at, domain)
    conditions = None if where is None else as_list(where)
    found = recommender.recommend(events, k=k, at=at, query=looking_for, filters=conditions, topic=topic)
    if as_json:
        render_json(found)
        return
    render_history(recommender, events, looking_for)
    render_ranking(found)


def score(
    bundle: Path,
    history: list[str] | str | None = None,
    user: str | None = None,
    item: list[str] | str | None = None,
    text: list[str] | str | None = None,
    at: str | None = None,
    data: DataConfig | None = None,
    domain: Path | None = None,
    backbone: str | None = None,
    as_json: bool = False,
) -> None:
    """Print the score of items, and where it would place them in the catalog.

    Args:
        bundle: the folder of a saved recommender.
        history: item ids, oldest first: --history ID ID ...; none for a user without history.
        user: a user id of the log instead; the log is the one the bundle was trained on unless `data` names another.
        item: id of a catalog item, or several.
        text: text of an item that is in no catalog, or several.
        at: the query time, ISO; events at or after it are left out. Default: after the last event.
        data: where the user's log is; settings that are not given are the bundle's.
        domain: a bundle of another domain, whose items the history holds, or whose log the user is in.
        backbone: a local copy of the base model.
        as_json: print JSON; --json for short.
    """
    from llmrec.cli.inputs import as_list, load_recommender, resolve_history
    from llmrec.cli.render import render_history

    known, texts = as_list(item), as_list(text)
    if not known and not texts:
        raise ConfigError("nothing to score: give --item ID, or --text '...' for an item that is in no catalog")
    recommender = load_recommender(bundle, backbone)
    events = resolve_history(recommender, history, user, data, at, domain)
    scores = recommender.score(events, [*known, *({"text": words} for words in texts)], at=at)
    ranked = [
        found.score for found in recommender.recommend(events, k=len(recommender.catalog), at=at, include_seen=True)
    ]
    rows = [
        {"item": name, "score": value, "place": 1 + sum(other > value for other in ranked), "of": len(ranked)}
        for name, value in zip([*known, *texts], scores, strict=True)
    ]
    if as_json:
        print(json.dumps(rows, ensure_ascii=False))
        return
    render_history(recommender, events)
    labels = [f"{recommender.catalog.label(id_)}  [{id_}]" for id_ in known]
    for row, name in zip(rows, [*labels, *texts], strict=True):
        print(f"{row['score']:8.3f}  would be number {row['place']:,} of {row['of']:,}  {name}")


def explain(
    bundle: Path,
    item: list[str] | str | None = None,
    text: list[str] | str | None = None,
    history: list[str] | str | None = None,
    user: str | None = None,
    at: str | None = None,
    data: DataConfig | None = None,
    words: bool = False,
    backbone: str | None = None,
    as_json: bool = False,
) -> None:
    """Print why an item has its score: the one that would be recommended first, unless one is given.

    Args:
        bundle: the folder of a saved recommender.
        item: id of a catalog item.
        text: text of an item that is in no catalog, instead.
        history: item ids, oldest first: --history ID ID ...
        user: a user id of the log instead; the log is the one the bundle was trained on unless `data` names another.
        at: the query time, ISO; events at or after it are left out. Default: after the last event.
        data: where the user's log is; settings that are not given are the bundle's.
        words: also what the words of the item's text add (pip install llmrec[explain]).
        backbone: a local copy of the base model.
        as_json: print JSON; --json for short.
    """
    from llmrec.cli.inputs import load_recommender, parse_item, resolve_history
    from llmrec.reports.explanation_text import format_explanation

    recommender = load_recommender(bundle, backbone)
    events = resolve_history(recommender, history, user, data, at)
    given = item is not None or text is not None
    asked = parse_item(item, text) if given else recommender.recommend(events, k=1, at=at)[0].item
    found = recommender.explain(events, asked, at=at, tokens=words)
    print(json.dumps(asdict(found), ensure_ascii=False) if as_json else "\n".join(format_explanation(found)))
