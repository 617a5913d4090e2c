"""What the verbs of the `llmrec` command do: print, in plain columns or JSON.

What is heavy is imported inside: the command line reads these signatures, types included, for every help.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

from llmrec.config.data import DataConfig
from llmrec.config.split import SplitConfig, SplitName
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
    from llmrec.asked import history_of, load, print_history, print_json, print_ranked, several

    recommender = load(bundle, backbone)
    newcomer = looking_for is not None and history is None and user is None
    events = [] if newcomer else history_of(recommender, history, user, data, at, domain)
    conditions = None if where is None else several(where)
    found = recommender.recommend(events, k, at, looking_for=looking_for, where=conditions, topic=topic)
    if as_json:
        print_json(found)
        return
    print_history(recommender, events, looking_for)
    print_ranked(found)


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
    from llmrec.asked import history_of, load, print_history, several

    known, texts = several(item), several(text)
    if not known and not texts:
        raise ConfigError("nothing to score: give --item ID, or --text '...' for an item that is in no catalog")
    recommender = load(bundle, backbone)
    events = history_of(recommender, history, user, data, at, domain)
    scores = recommender.score(events, [*known, *({"text": words} for words in texts)], at)
    ranked = [found.score for found in recommender.recommend(events, len(recommender.catalog), at, include_seen=True)]
    rows = [
        {"item": name, "score": value, "place": 1 + sum(other > value for other in ranked), "of": len(ranked)}
        for name, value in zip([*known, *texts], scores, strict=True)
    ]
    if as_json:
        print(json.dumps(rows, ensure_ascii=False))
        return
    print_history(recommender, events)
    places = recommender.catalog.rows(known)
    labels = [f"{recommender.catalog.label(row)}  [{id_}]" for id_, row in zip(known, places, strict=True)]
    for row, name in zip(rows, [*labels, *texts], strict=True):
        print(f"{row['score']:8.3f}  would be number {row['place']:,} of {row['of']:,}  {name}")


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
    from llmrec.asked import drift_of
    from llmrec.reports.drift_figures import write_user_figures
    from llmrec.reports.drift_text import user_lines

    found = drift_of(bundle, user, at, data)
    print(json.dumps(asdict(found), ensure_ascii=False) if as_json else "\n".join(user_lines(found)))
    if output is not None:
        for path in write_user_figures(found, output):
            print(f"wrote {path}", file=sys.stderr)


def evaluate(
    bundle: Path, data: DataConfig | None = None, split: SplitName | None = None, backbone: str | None = None
) -> None:
    """Print metrics of a bundle on the test part of its log, with intervals, overall and by slice.

    Args:
        bundle: the folder of a saved recommender.
        data: the log; settings that are not given are the bundle's. Its items must be those of the bundle.
        split: default: the one the bundle was trained on.
        backbone: a local copy of the base model, for bundles whose backbone encodes histories.
    """
    from llmrec.asked import bundle_and_log, seen_in_training
    from llmrec.data.splits import make_split
    from llmrec.jobs.evaluate import reevaluate
    from llmrec.reports.report_text import render_slices

    loaded, log = bundle_and_log(bundle, data, backbone)
    config = loaded.config
    name = split or config.split.names[0]
    if note := seen_in_training(loaded, log, name):
        print(f"note: {note}", file=sys.stderr)
    part, ties = make_split(name, log.interactions, log.n_users, log.n_items, config.split)
    report = reevaluate(loaded.model, part, ties, log.catalog.release_time, config, loaded.evaluation["main"])
    print(render_slices(report, name))


def plan(
    config: Path,
    data: DataConfig | None = None,
    gpus: int = 0,
    memory: str | None = None,
    hours: float | None = None,
    tflops: float = 10.0,
    steps: int = 4,
    strategies: list[str] | str | None = None,
    output: Path | None = None,
    from_plan: Path | None = None,
    report: Path | None = None,
) -> None:
    """Print what a run would take by each strategy, and which to use; with `report`, what it said beside what happened.

    Args:
        config: a YAML of recipes/finetune.py.
        data: the log, where the YAML does not say; settings that are not given are the YAML's.
        gpus: how many share each batch; 0: this machine's CPU. What they take is an estimate.
        memory: what one process may take, such as 24GB or 512MiB.
        hours: what a run may take.
        tflops: what one GPU is assumed to keep up, in TFLOP/s.
        steps: that are taken to measure one.
        strategies: some of frozen, last_k, lora, full, distil; default: all.
        output: where the plan is written, as JSON.
        from_plan: a plan that was written so, in place of a new one.
        report: the report.json of a run, to compare the plan with.
    """
    from llmrec.asked import several
    from llmrec.planned import planned
    from llmrec.planning.plan import write_plan
    from llmrec.planning.plan_vs_actual import compare
    from llmrec.reports.plan_text import compared_lines, plan_lines
    from llmrec.reports.report_files import read_report

    happened = None if report is None else read_report(report)
    if happened is not None and from_plan is None:
        print(
            "note: the plan is made now; texts that the run has left in the cache are not read again. --from-plan "
            "takes one from before the run",
            file=sys.stderr,
        )
    found = planned(config, data, (gpus, memory, hours, tflops), steps, several(strategies), from_plan, happened)
    if output is not None:
        write_plan(found, output)
    lines = plan_lines(found) if happened is None else compared_lines(compare(found, happened, str(report)))
    print("\n".join(lines))


def audit(data: DataConfig, split: SplitConfig | None = None, as_json: bool = False) -> None:
    """Print what is wrong, or merely surprising, with a log.

    Args:
        data: the log.
        split: how its time split is cut.
        as_json: print JSON; --json for short.
    """
    from llmrec.data.audit import audit as audit_log
    from llmrec.data.loading import load_log
    from llmrec.data.splits import make_split

    log = load_log(data)
    part, _ = make_split("by_time", log.interactions, log.n_users, log.n_items, split or SplitConfig())
    found = audit_log(log, part)
    print(json.dumps(found.to_dict(), ensure_ascii=False) if as_json else "\n".join(found.lines()))
