"""Jobs as Python calls on tables, data sets or paths: fit, evaluate, pretrain, distill and transfer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from llmrec.config.jobs.distill import DistillConfig
from llmrec.config.jobs.evaluate import EvaluateConfig
from llmrec.config.jobs.finetune import FinetuneConfig
from llmrec.config.jobs.pretrain import PretrainConfig
from llmrec.config.jobs.transfer import TransferConfig
from llmrec.data.readers.memory import LogTables
from llmrec.errors import ConfigError
from llmrec.evaluation.results import Report
from llmrec.hub.bundle import load_bundle
from llmrec.jobs.arguments import build_config, build_log_config, locate_log, prepare_source
from llmrec.jobs.distill import run_distill
from llmrec.jobs.evaluate import run_evaluate
from llmrec.jobs.finetune import run_finetune
from llmrec.jobs.pretrain import run_pretrain
from llmrec.jobs.result import JobResult, record_outcome, require_result
from llmrec.jobs.transfer import run_transfer
from llmrec.recommender import Recommender
from llmrec.reports.report_text import render_table

Config: TypeAlias = "str | Path | Mapping[str, Any] | None"
Kind = TypeVar("Kind", FinetuneConfig, DistillConfig, TransferConfig)


@dataclass(frozen=True)
class FitResult:
    """Trained recommender with the report of its test; shows the report in a notebook."""

    recommender: Recommender
    """The recommender, loaded from the bundle in `folder`."""
    report: Report
    """All numbers of the run."""
    folder: Path
    """Folder of the run: report.md, report.json, figures/ and bundle/."""

    @property
    def bundle(self) -> Path:
        """Return the folder of the bundle, for `Recommender.from_pretrained` and `llmrec serve`."""
        return self.folder / "bundle"

    def __repr__(self) -> str:
        tables = [render_table(self.report, split) for split in self.report.splits]
        return "\n\n".join([*tables, f"item text: {self.recommender.config.data.text_template}\nfolder: {self.folder}"])

    def _repr_html_(self) -> str:
        """Render the tables for a notebook."""
        text, folder = self.recommender.config.data.text_template, self.folder
        return f"{self.report._repr_html_()}<p>item text: {escape(text)}<br>folder: {escape(str(folder))}</p>"


def fit(
    events: object = None,
    items: object = None,
    *,
    text_template: str | None = None,
    config: Config | FinetuneConfig = None,
    **overrides: object,
) -> FitResult:
    """Train a recommender on a log, evaluate it on the log's last part, and return both.

    It is the job of `llmrec train`, in one process. Columns that are not named in `data` are guessed from their names,
    and so is the template of item texts. Nothing is written outside of the run's folder but the cache of text vectors.

    Args:
        events: Events with a user, an item and a time: a pandas, polars or Arrow table, a datasets.Dataset or the path
            of a file; or a folder of interactions.* and items.*, `hub:OWNER/NAME` or `movielens_small`, without
            `items`. None for the log of `config`.
        items: All items with their ids and texts, likewise.
        text_template: Item text with columns in braces, such as "{title}. Genres: {genres}".
        config: Preset such as "quickstart", path of a YAML file, mapping or FinetuneConfig.
        **overrides: Settings that win, with `__` between sections: `train__epochs=3`, `data={"user_column": "uid"}`.
            `output` is the folder of the run, by default a new one below ./runs.

    Returns:
        Recommender, report and folder.

    Raises:
        ConfigError: If a setting is unknown or wrong, with the one that was probably meant.
        DataError: If anything is wrong with the data; all problems are listed at once.

    Example:
        result = llmrec.fit(events, items, text_template="{title}. Genres: {genres}", train__epochs=5)
        result.recommender.recommend(["1", "260"], k=5)
    """
    built, tables = build_log_config(FinetuneConfig, config, overrides, (events, items), text_template=text_template)
    return _run(run_finetune, built, tables)


def evaluate(
    bundle: FitResult | str | Path,
    events: object = None,
    items: object = None,
    *,
    config: Config | EvaluateConfig = None,
    **overrides: object,
) -> Report:
    """Evaluate a recommender on the test part of a log.

    Args:
        bundle: Result of `fit`, folder of a bundle, or OWNER/NAME on the Hugging Face hub.
        events: Events as for `fit`, with the columns of the bundle's log; None for that log, unless it was in memory.
        items: Items as for `fit`, the same as the bundle's.
        config: Path of a YAML file, mapping or EvaluateConfig.
        **overrides: Settings that win, such as `split="leave_one_out"` or `max_queries=1000`.

    Returns:
        The report, by slice of the queries.

    Raises:
        ConfigError: If a setting is wrong, or the log has other items.
        DataError: If the log cannot be read, or was in memory and is not given.

    Example:
        llmrec.evaluate(result, events, items, max_queries=1000)
    """
    place = bundle.bundle if isinstance(bundle, FitResult) else bundle
    overrides = {"bundle": str(place)} | overrides
    places, tables = locate_log(events, items)
    built = build_config(EvaluateConfig, config, overrides, {"data": places} if places else {})
    with record_outcome():
        return require_result(run_evaluate(built, tables)).report


def pretrain(
    events: object = None,
    items: object = None,
    *,
    text_template: str | None = None,
    config: Config | PretrainConfig = None,
    **overrides: object,
) -> Path:
    """Continue a backbone's pretraining on a log, and return the folder of the backbone.

    Args:
        events: Events as for `fit`.
        items: Items as for `fit`.
        text_template: Item text with columns in braces.
        config: Preset, path of a YAML file, mapping or PretrainConfig.
        **overrides: Settings that win, such as `train__max_steps=500`.

    Returns:
        Folder of the backbone, for `backbone__name` of `fit`.

    Raises:
        ConfigError: If a setting is unknown or wrong.
        DataError: If anything is wrong with the data.

    Example:
        backbone = llmrec.pretrain(events, items, train__max_steps=500)
        result = llmrec.fit(events, items, backbone__name=backbone)
    """
    built, tables = build_log_config(PretrainConfig, config, overrides, (events, items), text_template=text_template)
    with record_outcome():
        run_pretrain(built, tables)
    return built.output / "backbone"


def distill(
    teacher: FitResult | str | Path,
    events: object = None,
    items: object = None,
    *,
    config: Config | DistillConfig = None,
    **overrides: object,
) -> FitResult:
    """Distill a recommender into one with a smaller backbone.

    Args:
        teacher: Result of `fit`, or folder of a bundle.
        events: Events of the teacher's log as for `fit`, or the folder of the log; None for where it was.
        items: Items as for `fit`.
        config: Preset, path of a YAML file, mapping or DistillConfig.
        **overrides: Settings that win, such as `backbone__n_layers=2`.

    Returns:
        Recommender, report and folder of the student.

    Raises:
        ConfigError: If a setting is wrong, or the log is not the teacher's.
        DataError: If the log cannot be read, or was in memory and is not given.

    Example:
        student = llmrec.distill(result, events, items, backbone__n_layers=2)
    """
    place = teacher.bundle if isinstance(teacher, FitResult) else teacher
    places, tables = locate_log(events, items)
    if places.get("interactions"):
        raise ConfigError("events: two files. Pass the folder that holds interactions.* and items.*, or tables.")
    source = {"source": places["source"]} if places else {}
    built = build_config(DistillConfig, config, {"teacher": str(place)} | overrides, source)
    return _run(run_distill, built, tables)


def transfer(
    sources: Sequence[object],
    events: object = None,
    items: object = None,
    *,
    text_template: str | None = None,
    config: Config | TransferConfig = None,
    **overrides: object,
) -> FitResult:
    """Compare four ways to use logs of other domains for a log, and return the best recommender.

    Args:
        sources: Logs to learn from: pairs (events, items) of tables or files, folders, or mappings as of `data`.
        events: Events of the target domain as for `fit`.
        items: Items of the target domain as for `fit`.
        text_template: Item text of the target domain, with columns in braces.
        config: Preset, path of a YAML file, mapping or TransferConfig.
        **overrides: Settings that win, such as `train_fraction=0.1`.

    Returns:
        Recommender, report and folder.

    Raises:
        ConfigError: If a setting is unknown or wrong.
        DataError: If anything is wrong with the data.

    Example:
        result = llmrec.transfer([(book_events, books)], film_events, films, train_fraction=0.1)
    """
    logs = [prepare_source(source) for source in sources]
    overrides = {"sources": [settings for settings, _ in logs]} | overrides
    built, tables = build_log_config(TransferConfig, config, overrides, (events, items), text_template=text_template)
    source_tables = [given for _, given in logs]

    def job(config: TransferConfig, tables: LogTables | None) -> JobResult | None:
        return run_transfer(config, tables, source_tables=source_tables)

    return _run(job, built, tables)


def _run(
    job: Callable[[Kind, LogTables | None], JobResult | None], config: Kind, tables: LogTables | None
) -> FitResult:
    """Run a job that trains a recommender, and load the recommender from its bundle."""
    with record_outcome():
        report, log = require_result(job(config, tables))
    folder = config.output / "bundle"
    return FitResult(Recommender(load_bundle(folder), folder, log=log), report, config.output)
