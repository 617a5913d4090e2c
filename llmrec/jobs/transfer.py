"""Transfer from source domains to a target: compare four ways, and keep the best model."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence

from llmrec.backbones.adaptation import apply_strategy
from llmrec.backbones.text_backbone import TextBackbone
from llmrec.backbones.text_vector_cache import TextVectorCache
from llmrec.config.jobs.transfer import TransferConfig
from llmrec.data.loading import load_log
from llmrec.data.readers.memory import LogTables
from llmrec.evaluation.aggregate import get_primary_metric, make_report, make_test_queries
from llmrec.evaluation.model_scorer import ModelScorer
from llmrec.evaluation.run_metadata import RunMetadata
from llmrec.hub.base_model import BaseModelInfo
from llmrec.hub.bundle import Bundle
from llmrec.jobs.model_benchmark import ModelBenchmark
from llmrec.jobs.result import JobResult
from llmrec.runs.finish import check_output, finish
from llmrec.runs.provenance import collect_provenance
from llmrec.runs.start import start_run
from llmrec.training.cross_domain import (
    CrossDomainStudy,
    Domain,
    choose_transfer,
    describe_transfer,
    get_transfer_row,
    make_source_domain,
)
from llmrec.training.task import make_task
from llmrec.utils.timing import timer

logger = logging.getLogger(__name__)


def run_transfer(
    config: TransferConfig, tables: LogTables | None = None, *, source_tables: Sequence[LogTables | None] | None = None
) -> JobResult | None:
    """Compare four ways to use source domains, and write the report and the bundle of the best one.

    Args:
        config: Settings of the job.
        tables: Events and items in memory, instead of the sources in `config.data`.
        source_tables: The same for each of `config.sources`.

    Returns:
        The report and the log; None in processes other than the first.
    """
    check_output(config.output)
    accelerator = start_run(config)
    provenance = collect_provenance(accelerator)
    log, given = load_log(config.data, tables), source_tables or [None] * len(config.sources)
    sources = [load_log(source, one) for source, one in zip(config.sources, given, strict=True)]

    def new_backbone() -> TextBackbone:
        backbone = TextBackbone.load(config.backbone)
        logger.info(apply_strategy(backbone, config.backbone))
        return backbone.to(accelerator.device)

    finetune = config.to_finetune_config()
    split = config.split.names[0]
    task = make_task(split, log, finetune, accelerator)
    task = dataclasses.replace(
        task, split=task.split.subsample_users(config.train_fraction), inputs=f"{task.inputs} {config.train_fraction}"
    )
    with accelerator.main_process_first():
        pretrained = TextBackbone.load(config.backbone).to(accelerator.device)
    read = TextVectorCache(pretrained, accelerator=accelerator).get_vectors
    target = Domain(task, log.catalog.list_texts(), read(log.catalog.list_texts()))
    source = make_source_domain(sources, task, finetune, read)
    study = CrossDomainStudy(finetune, None if config.backbone.strategy == "frozen" else new_backbone)
    comparison = ModelBenchmark(task, finetune, make_test_queries(task.split, task.ties, config.evaluation))
    fitted = []
    for seed in config.seeds:
        fitted.append(study.compare_transfers(source, target, seed))
        for mode, trained in fitted[-1].items():
            row = dataclasses.replace(get_transfer_row(mode), seed=seed)
            comparison.rank(row, ModelScorer(trained.model))
    comparison.rank_baselines(target.vectors)
    mode, means = choose_transfer(fitted)
    also = get_transfer_row("initialized"), get_transfer_row("zero_shot")
    evaluated = comparison.evaluate(get_transfer_row(mode), target.vectors, also=also)
    accelerator.end_training()
    if not accelerator.is_main_process:
        return None

    run = RunMetadata(
        **provenance,
        minutes=timer.minutes,
        phases=timer.to_record(),
        data=dataclasses.asdict(log.facts),
        seeds={split: list(config.seeds)},
        sources=[dataclasses.asdict(part.facts) for part in sources],
        share=config.train_fraction,
        transfer=describe_transfer(evaluated, get_primary_metric(config.evaluation), mode, means),
    )
    report = make_report([evaluated], config.evaluation, run)
    best, base = fitted[0][mode], BaseModelInfo.from_backbone(pretrained)
    facts = dataclasses.asdict(log.facts)
    bundle = Bundle(finetune, log.catalog, best.model.cpu(), base, best.backbone, facts, {})
    finish(report, bundle, config.output, training=[], notes=[run.transfer])
    return JobResult(report, log)
