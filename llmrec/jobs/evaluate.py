"""Evaluate a saved recommender on the test part of a split, with its drift head if it has one."""

from __future__ import annotations

import dataclasses
import logging

from accelerate import Accelerator

from llmrec.config.drift import DriftConfig
from llmrec.config.jobs.evaluate import EvaluateConfig
from llmrec.config.order_only import REASON
from llmrec.config.split import SplitName
from llmrec.data.interactions import Ties
from llmrec.data.log import Log
from llmrec.data.readers.memory import LogTables
from llmrec.data.splits import Split, make_split
from llmrec.drift.fitted import FittedDrift
from llmrec.drift.scorers import DriftScorer
from llmrec.drift.stream import REFRESH_DAILY
from llmrec.errors import ConfigError
from llmrec.evaluation.aggregate import evaluate_split, make_report, make_test_queries
from llmrec.evaluation.model_rows import ModelRow
from llmrec.evaluation.model_scorer import ModelScorer
from llmrec.evaluation.ranking import Scorer
from llmrec.evaluation.results import Report
from llmrec.evaluation.run_metadata import RunMetadata
from llmrec.evaluation.slices import make_slices
from llmrec.hub.bundle import Bundle
from llmrec.hub.training_log import load_bundle_and_log, training_overlap_warning
from llmrec.jobs.result import JobResult
from llmrec.reports.report_files import write_report
from llmrec.reports.report_text import render_slices
from llmrec.runs.finish import print_results
from llmrec.runs.provenance import collect_provenance
from llmrec.runs.start import join_run
from llmrec.training.distributed.parallel_ranking import rank_in_parallel
from llmrec.training.task import make_protocol
from llmrec.utils.timing import timer

logger = logging.getLogger(__name__)


@timer.section("evaluate")
def evaluate_bundle(
    bundle: Bundle,
    log: Log,
    split_name: SplitName,
    *,
    accelerator: Accelerator | None = None,
    run: RunMetadata | None = None,
) -> Report:
    """Compute every metric of a bundle by slice, on the test part of a split of a log of its items.

    Args:
        bundle: The recommender; its model is on the device that ranks.
        log: Its own log, or another of its items.
        split_name: Kind of split; its fractions are the bundle's.
        accelerator: Processes that share the queries and all get the report; None for this process alone.
        run: Facts about the run, for the report.

    Returns:
        The report.

    Raises:
        ConfigError: If the split is by_time and the log has no times.
    """
    config, available = bundle.config, log.catalog.release_time
    if split_name == "by_time" and not log.facts.has_times:
        raise ConfigError(f"split=by_time: {REASON}. Give leave_one_out or item_cold.")
    split, ties = make_split(split_name, log.interactions, log.n_users, log.n_items, config=config.split)
    evaluation = config.evaluation
    queries = make_test_queries(split, ties, evaluation)
    row, scorer = make_bundle_scorer(bundle, split, ties)
    learned = split.merge_validation() if config.train.refit else split
    ranking = rank_in_parallel(
        scorer,
        queries,
        split.n_items,
        accelerator,
        n_top=max(evaluation.cutoffs),
        mask_seen=evaluation.masks_seen(config.data),
        available=available,
        pool=learned.cold_item_mask(),
        progress="ranking",
    )
    slices = make_slices(learned, queries, has_times=log.facts.has_times)
    protocol = make_protocol(split, ties, config, release_dates=available is not None)
    protocol = dataclasses.replace(protocol, streaming=() if row.refresh is None else (row.name,))
    evaluated = evaluate_split(
        split.name, queries, slices, {row: [ranking]}, protocol=protocol, config=evaluation, main=row
    )
    return make_report([evaluated], evaluation, run or RunMetadata())


def make_bundle_scorer(bundle: Bundle, split: Split, ties: Ties) -> tuple[ModelRow, Scorer]:
    """Make the scorer of a bundle for the test of a split.

    The counts of a drift head begin with the events before the cutoff, and are updated as in its training report.

    Args:
        bundle: The recommender.
        split: Split of the log.
        ties: Rule for events with equal times.

    Returns:
        The row in reports, and the scorer.
    """
    base = ModelScorer(bundle.model)
    if bundle.drift is None or bundle.config.drift is None:
        return ModelRow.from_record(bundle.evaluation["row"]), base
    days = bundle.config.drift.refresh_days[0] if split.name == "by_time" else REFRESH_DAILY
    return ModelRow.refreshed(days), _make_drift_scorer(
        bundle.drift, bundle.config.drift, split, ties, base=base, days=days
    )


def _make_drift_scorer(
    drift: FittedDrift, config: DriftConfig, split: Split, ties: Ties, *, base: Scorer, days: float
) -> DriftScorer:
    until = drift.trained_until if split.name == "by_time" else None
    stream = dataclasses.replace(drift.build_stream(config, split, ties), trained_until=until)
    return DriftScorer(drift.head, base, stream, refresh_days=days)


def run_evaluate(config: EvaluateConfig, tables: LogTables | None = None) -> JobResult | None:
    """Evaluate a bundle on the test part of a log, and write the report.

    Args:
        config: Settings of the job.
        tables: Events and items in memory, instead of the sources in `config.data`.

    Returns:
        The report and the log; None in processes other than the first.
    """
    accelerator = join_run(config)
    provenance = collect_provenance(accelerator)
    loaded, log = load_bundle_and_log(config.bundle, config.data, backbone=config.backbone, tables=tables)

    if config.max_queries is not None:
        evaluation = dataclasses.replace(loaded.config.evaluation, max_queries=config.max_queries)
        loaded = dataclasses.replace(loaded, config=dataclasses.replace(loaded.config, evaluation=evaluation))
    split = config.split or loaded.config.split.names[0]
    note = training_overlap_warning(loaded, log, split) or ""
    if note:
        logger.warning("note: %s", note)
    facts = dataclasses.asdict(log.facts)
    run = RunMetadata(**provenance, data=facts, bundle=config.bundle.name, note=note)

    loaded.model.to(accelerator.device)
    report = evaluate_bundle(loaded, log, split, accelerator=accelerator, run=run)
    accelerator.end_training()
    if not accelerator.is_main_process:
        return None

    report = dataclasses.replace(report, run=dataclasses.replace(run, minutes=timer.minutes))
    write_report(report, config.output)
    print_results(
        render_slices(report, split), "", f"{config.output}: report.md, report.json ({timer.minutes} minutes)"
    )
    return JobResult(report, log)
