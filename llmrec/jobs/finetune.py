"""Fine-tune a recommender on a log, evaluate it, and write a report and a bundle."""

from __future__ import annotations

import dataclasses
import logging
from typing import Any

from torch import Tensor

from llmrec.backbones.adaptation import apply_strategy, build_transfer_report
from llmrec.backbones.catalog_encoder import CatalogEncoder
from llmrec.backbones.text_backbone import TextBackbone
from llmrec.backbones.text_vector_cache import TextVectorCache
from llmrec.config.jobs.finetune import FinetuneConfig
from llmrec.data.items.field_dropout import drop_fields
from llmrec.data.loading import load_log
from llmrec.data.log import Log
from llmrec.data.readers.memory import LogTables
from llmrec.drift.fitted import FittedDrift
from llmrec.drift.profile import build_drift_profile
from llmrec.evaluation.aggregate import make_report
from llmrec.evaluation.run_metadata import RunMetadata
from llmrec.hub.base_model import BaseModelInfo
from llmrec.hub.bundle import Bundle
from llmrec.jobs.comparison import BenchmarkResult, run_benchmark
from llmrec.jobs.faithfulness import measure_faithfulness
from llmrec.jobs.result import JobResult
from llmrec.recommender import Recommender
from llmrec.runs.finish import BUNDLE, check_output, finish
from llmrec.runs.provenance import collect_provenance
from llmrec.runs.start import start_run
from llmrec.training.task import make_task
from llmrec.utils.timing import timer

logger = logging.getLogger(__name__)


def run_finetune(config: FinetuneConfig, tables: LogTables | None = None) -> JobResult | None:
    """Fine-tune on a log, evaluate on its test part, and write the report and the bundle.

    Args:
        config: Settings of the job.
        tables: Events and items in memory, instead of the sources in `config.data`.

    Returns:
        The report and the log; None in processes other than the first.
    """
    check_output(config.output)
    accelerator = start_run(config)
    provenance = collect_provenance(accelerator)  # now: the source tree may change during the run
    log = load_log(config.data, tables)

    strategy = config.backbone.strategy
    text, base, histories = None, None, None
    trains_backbone = strategy not in ("none", "frozen")

    def new_reader() -> CatalogEncoder:
        backbone = TextBackbone.load(config.backbone)
        apply_strategy(backbone, config.backbone)
        return CatalogEncoder.from_texts(backbone.to(accelerator.device), log.catalog.list_texts())

    if strategy != "none":
        with timer.section("read"):
            with accelerator.main_process_first():
                frozen = TextBackbone.load(config.backbone).requires_grad_(requires_grad=False).to(accelerator.device)
                # The layers that never train run once, for the vectors of the fit and for all of the adaptation.
                reader = new_reader().with_hidden_state_cache() if trains_backbone else None
            if reader is not None:
                logger.info(build_transfer_report(reader.backbone, strategy))
            cache, lower = TextVectorCache(frozen, accelerator=accelerator), reader.lower if reader else None
            text, base = cache.get_vectors(log.catalog.text_array, lower=lower), BaseModelInfo.from_backbone(frozen)
            del reader
        if config.model.history_encoder != "sequence":
            histories = CatalogEncoder.from_texts(frozen, log.catalog.list_texts(), cache=cache)

    tasks = [make_task(split, log, config, accelerator, reader=histories) for split in config.split.names]
    second_texts = None
    if trains_backbone and config.adapt_items is not None and config.adapt_items.field_dropout:
        second_texts = drop_fields(log.catalog, config.adapt_items.field_dropout, config.seeds[0])
    make_reader = new_reader if trains_backbone else None
    results = [run_benchmark(task, config, text, make_reader, second_texts=second_texts) for task in tasks]
    accelerator.end_training()
    if not accelerator.is_main_process:
        return None

    first = results[0]
    bundle = _make_bundle(config, log, first, base, text=text)
    explanations: list[dict[str, Any]] = []
    if config.evaluation.n_explained_users and histories is None:
        recommender, at = Recommender(bundle, config.output / BUNDLE), tasks[0].split.test_start
        tests = measure_faithfulness(recommender, log, at, config.evaluation.n_explained_users)
        explanations = [dataclasses.asdict(test) for test in tests]
    run = RunMetadata(
        **provenance,
        minutes=timer.minutes,
        phases=timer.to_record(),
        data=dataclasses.asdict(log.facts),
        seeds={split: list(config.seeds_for_split(split)) for split in config.split.names},
        adaptation={result.evaluated.split: result.adaptation for result in results if result.adaptation},
        drift=_make_drift_record(first, log),
        explanations=explanations,
        privacy=first.privacy,
        membership=first.membership,
    )
    report = make_report([result.evaluated for result in results], config.evaluation, run)
    training = [point for result in results for point in result.training]
    finish(report, bundle, config.output, training=training, notes=list(run.adaptation.values())[:1])
    return JobResult(report, log)


def _make_bundle(
    config: FinetuneConfig, log: Log, result: BenchmarkResult, base: BaseModelInfo | None, *, text: Tensor | None
) -> Bundle:
    """Return the bundle of the first seed; one whose adapted weights were dropped has a frozen backbone."""
    backbone = result.reader.backbone if result.reader else None
    if result.adaptation and backbone is None:
        config = dataclasses.replace(config, backbone=dataclasses.replace(config.backbone, strategy="frozen"))
    drift = FittedDrift.from_fit(result.drift, text) if result.drift else None
    return Bundle(config, log.catalog, result.model.cpu(), base, backbone, dataclasses.asdict(log.facts), {}, drift)


def _make_drift_record(result: BenchmarkResult, log: Log) -> dict[str, Any] | None:
    if result.drift is None:
        return None
    return dataclasses.asdict(build_drift_profile(result.drift.head, result.drift.stream, log.catalog.label))
