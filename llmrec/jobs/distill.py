"""Distill a bundle into a smaller one that encodes text faster."""

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
from llmrec.evaluation.model_rows import STUDENT, TEACHER, UNDISTILLED
from llmrec.evaluation.model_scorer import ModelScorer
from llmrec.evaluation.run_metadata import RunMetadata
from llmrec.hub.base_model import BaseModelInfo
from llmrec.hub.bundle import Bundle, load_backbone, load_bundle
from llmrec.jobs.model_benchmark import ModelBenchmark
from llmrec.jobs.result import JobResult
from llmrec.runs.finish import check_output, finish
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

    Raises:
        ConfigError: If the log is not the one that the teacher was trained on.
    """
    check_output(config.output)
    teacher = load_bundle(config.teacher)
    student = config.student_config(teacher.config)
    accelerator = start_run(student)
    provenance = collect_provenance(accelerator)
    log = load_log(student.data, tables)
    if log.facts.fingerprint != teacher.facts["fingerprint"]:
        raise ConfigError(f"{log.facts.source}: not the log that {config.teacher} was trained on; name it by --source")

    backbone = TextBackbone.load(config.backbone)
    base, texts = BaseModelInfo.from_backbone(backbone), log.catalog.list_texts()
    logger.info(apply_strategy(backbone, config.backbone))
    reader = CatalogEncoder.from_texts(backbone.to(accelerator.device), texts)
    with timer.section("read"):
        undistilled = encode_catalog(reader, accelerator)
    task = make_task("by_time", log, student, accelerator)
    comparison = ModelBenchmark(task, student, make_test_queries(task.split, task.ties, config.evaluation))
    comparison.rank(TEACHER, ModelScorer(teacher.model.to(accelerator.device)))
    train = dataclasses.replace(student.train, refit=False)
    comparison.fit(UNDISTILLED, student.model, train, undistilled, seed=config.seed)
    with timer.section("adapt", STUDENT.name):
        model, _ = distill(task, student, teacher.model, reader, losses=config.losses, seed=config.seed)
    comparison.rank(dataclasses.replace(STUDENT, seed=config.seed), ModelScorer(model))
    comparison.rank_baselines(undistilled)
    evaluated = comparison.evaluate(STUDENT, undistilled)
    accelerator.end_training()
    if not accelerator.is_main_process:
        return None

    cost = encode_cost(backbone.cpu(), load_backbone(config.teacher, teacher), texts)
    run = RunMetadata(
        **provenance,
        minutes=timer.minutes,
        phases=timer.to_record(),
        data=dataclasses.asdict(log.facts),
        seeds={"by_time": [config.seed]},
        distillation=describe_student(evaluated, get_primary_metric(config.evaluation), cost),
    )
    report = make_report([evaluated], config.evaluation, run)
    bundle = Bundle(student, log.catalog, model.cpu(), base, backbone, dataclasses.asdict(log.facts), {})
    finish(report, bundle, config.output, training=comparison.training, notes=[run.distillation])
    return JobResult(report, log)
