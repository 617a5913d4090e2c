"""From a trained bundle to a smaller one that recommends nearly as well and reads text at a fraction of the cost."""

from __future__ import annotations

import dataclasses
import logging

from llmrec.backbones.adaptation import apply_strategy
from llmrec.backbones.catalog_encoder import CatalogEncoder
from llmrec.backbones.text_backbone import TextBackbone
from llmrec.config.jobs.distill import DistillConfig
from llmrec.data.loading import load_log
from llmrec.data.readers.memory import LogTables
from llmrec.errors import ConfigError
from llmrec.evaluation.aggregate import get_primary_metric, make_report, make_test_queries
from llmrec.evaluation.model_scorer import ModelScorer
from llmrec.hub.bundle import BaseModelInfo, Bundle, load_backbone, load_bundle, save_bundle
from llmrec.hub.layout import check_destination
from llmrec.jobs.comparison import ModelBenchmark
from llmrec.jobs.result import JobResult
from llmrec.reports.figures import write_figures
from llmrec.reports.report_files import write_report
from llmrec.reports.report_text import render_table, summarize_report
from llmrec.runs.provenance import collect_provenance
from llmrec.runs.start import start_run
from llmrec.training.distillation import describe_student, distill, encode_cost
from llmrec.training.distributed.collectives import encode_catalog
from llmrec.training.task import make_task
from llmrec.utils.timing import timer

logger = logging.getLogger(__name__)


def run_distill(config: DistillConfig, tables: LogTables | None = None) -> JobResult | None:
    """Train a smaller student of a bundle, and write its report and bundle.

    Args:
        config: Settings of the job.
        tables: Events and items in memory, instead of the teacher's sources.

    Returns:
        The report and the log; None in processes other than the first.
    """
    bundle_folder = config.output / "bundle"
    check_destination(bundle_folder)
    teacher = load_bundle(config.teacher)
    student = config.student_config(teacher.config)
    accelerator = start_run(student)
    metadata = collect_provenance(accelerator)
    log = load_log(student.data, tables)
    if log.facts.fingerprint != teacher.facts["fingerprint"]:
        raise ConfigError(f"{log.facts.source}: not the log that {config.teacher} was trained on; name it by --source")

    backbone = TextBackbone.load(config.backbone)
    base, texts = BaseModelInfo.from_backbone(backbone), log.catalog.list_texts()
    logger.info(apply_strategy(backbone, config.backbone))
    reader = CatalogEncoder.from_texts(backbone.to(accelerator.device), texts)
    with timer.section("read"):
        untaught = encode_catalog(reader, accelerator)
    task = make_task("by_time", log, student, accelerator)
    comparison = ModelBenchmark(task, student, make_test_queries(task.split, task.ties, config.evaluation))
    comparison.rank("teacher", ModelScorer(teacher.model.to(accelerator.device)))
    comparison.fit("untaught", student.model, dataclasses.replace(student.train, refit=False), untaught, config.seed)
    with timer.section("adapt", "student"):
        model, _ = distill(task, student, teacher.model, reader, config.losses, config.seed)
    comparison.rank("student", ModelScorer(model))
    comparison.rank_baselines(untaught)
    evaluated = comparison.evaluate("student", untaught)
    accelerator.end_training()
    if not accelerator.is_main_process:
        return None

    cost = encode_cost(backbone.cpu(), load_backbone(config.teacher, teacher), texts)
    metadata |= {
        "minutes": timer.minutes,
        "phases": timer.to_record(),
        "data": dataclasses.asdict(log.facts),
        "distillation": describe_student(evaluated, get_primary_metric(config.evaluation), cost),
    }
    report = make_report([evaluated], config.evaluation, "student", metadata)
    write_report(report, config.output)
    write_figures(report, config.output / "figures", comparison.training)
    facts, evaluation = dataclasses.asdict(log.facts), summarize_report(report)
    save_bundle(bundle_folder, Bundle(student, log.catalog, model.cpu(), base, backbone, facts, evaluation))
    print("\n" + render_table(report, "by_time"))
    print(f"\n{metadata['distillation']}\n{config.output}: report.md, report.json, figures/, bundle/")
    return JobResult(report, log)
