"""A saved model ranked again on the test part of a split."""

from __future__ import annotations

import dataclasses
import logging

from accelerate import Accelerator

from llmrec.config.jobs.evaluate import EvaluateConfig
from llmrec.config.jobs.finetune import FinetuneConfig
from llmrec.data.interactions import Ties
from llmrec.data.readers.memory import LogTables
from llmrec.data.splits import Split, make_split
from llmrec.evaluation.aggregate import evaluate_split, make_report, make_test_queries
from llmrec.evaluation.model_scorer import ModelScorer
from llmrec.evaluation.results import Report
from llmrec.evaluation.slices import make_slices
from llmrec.hub.training_log import load_bundle_and_log, training_overlap_warning
from llmrec.jobs.result import JobResult
from llmrec.models.recommender_model import RecommenderModel
from llmrec.reports.report_files import write_report
from llmrec.reports.report_text import render_slices
from llmrec.runs.provenance import collect_provenance
from llmrec.runs.start import join_run
from llmrec.training.distributed.parallel_ranking import rank_in_parallel
from llmrec.training.task import make_protocol
from llmrec.utils.arrays import Rows
from llmrec.utils.timing import timer

logger = logging.getLogger(__name__)


@timer.section("evaluate")
def evaluate_bundle(
    model: RecommenderModel,
    split: Split,
    ties: Ties,
    available: Rows | None,
    config: FinetuneConfig,
    name: str,
    accelerator: Accelerator | None = None,
) -> Report:
    """Every metric by slice. available: (N,) release times, where there are any. accelerator: of processes that share
    the queries, and then all get the report.
    """
    evaluation = config.evaluation
    queries = make_test_queries(split, ties, evaluation)
    ranking = rank_in_parallel(
        ModelScorer(model),
        queries,
        split.n_items,
        accelerator,
        max(evaluation.cutoffs),
        evaluation.mask_seen,
        available,
        "ranking",
    )
    slices = make_slices(split.merge_validation() if config.train.refit else split, queries)
    protocol = make_protocol(split, ties, config, available is not None)
    evaluated = evaluate_split(split.name, queries, slices, {name: [ranking]}, protocol, evaluation, name)
    return make_report([evaluated], evaluation, name, {})


def run_evaluate(config: EvaluateConfig, tables: LogTables | None = None) -> JobResult | None:
    """Evaluate a bundle on the test part of a log, and write the report.

    Args:
        config: Settings of the job.
        tables: Events and items in memory, instead of the sources in `config.data`.

    Returns:
        The report and the log; None in processes other than the first.
    """
    accelerator = join_run(config)
    metadata = collect_provenance(accelerator)
    loaded, log = load_bundle_and_log(config.bundle, config.data, config.backbone, tables)

    trained = loaded.config
    if config.max_queries is not None:
        trained = dataclasses.replace(
            trained, evaluation=dataclasses.replace(trained.evaluation, max_queries=config.max_queries)
        )
    split = config.split or trained.split.names[0]
    part, ties = make_split(split, log.interactions, log.n_users, log.n_items, trained.split)
    metadata |= {"bundle": config.bundle.name, "data": dataclasses.asdict(log.facts)}
    if note := training_overlap_warning(loaded, log, split):
        logger.warning("note: %s", note)
        metadata["note"] = note

    model, name = loaded.model.to(accelerator.device), loaded.evaluation["main"]
    report = evaluate_bundle(model, part, ties, log.catalog.release_time, trained, name, accelerator)
    accelerator.end_training()
    if not accelerator.is_main_process:
        return None

    metadata["minutes"] = timer.minutes
    report = dataclasses.replace(report, run=metadata | report.run)
    write_report(report, config.output)
    print(render_slices(report, split))
    print(f"\n{config.output}: report.md, report.json ({metadata['minutes']} minutes)")
    return JobResult(report, log)
