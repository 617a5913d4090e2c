"""From an interaction log to a fine-tuned, evaluated, usable recommender."""

from __future__ import annotations

import dataclasses
import logging

from llmrec.backbones.adaptation import apply_strategy
from llmrec.backbones.catalog_encoder import CatalogEncoder
from llmrec.backbones.text_backbone import TextBackbone
from llmrec.backbones.text_vector_cache import TextVectorCache
from llmrec.config.jobs.finetune import FinetuneConfig
from llmrec.data.loading import load_log
from llmrec.data.readers.memory import LogTables
from llmrec.drift.fitted import FittedDrift
from llmrec.drift.profile import build_drift_profile
from llmrec.evaluation.aggregate import make_report
from llmrec.hub.bundle import BaseModelInfo, Bundle, save_bundle
from llmrec.hub.layout import check_destination
from llmrec.jobs.comparison import run_benchmark
from llmrec.jobs.faithfulness import measure_faithfulness
from llmrec.jobs.result import JobResult
from llmrec.recommender import Recommender
from llmrec.reports.figures import write_figures
from llmrec.reports.report_files import write_report
from llmrec.reports.report_text import render_table, summarize_report
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
    bundle_folder = config.output / "bundle"
    check_destination(bundle_folder)
    accelerator = start_run(config)
    metadata = collect_provenance(accelerator)  # now: the source tree may be another one when the run ends
    log = load_log(config.data, tables)

    strategy = config.backbone.strategy
    text, base, histories = None, None, None
    if strategy != "none":
        with timer.section("read"):
            with accelerator.main_process_first():
                frozen = TextBackbone.load(config.backbone).requires_grad_(False).to(accelerator.device)
            cache = TextVectorCache(frozen, accelerator=accelerator)
            text, base = cache.get_vectors(log.catalog.text_array), BaseModelInfo.from_backbone(frozen)
        if config.model.history_encoder != "sequence":
            histories = CatalogEncoder.from_texts(frozen, log.catalog.list_texts(), cache)

    def new_reader() -> CatalogEncoder:
        backbone = TextBackbone.load(config.backbone)
        logger.info(apply_strategy(backbone, config.backbone))
        return CatalogEncoder.from_texts(backbone.to(accelerator.device), log.catalog.list_texts())

    trains_backbone = strategy not in ("none", "frozen")
    name = f"llmrec {strategy}" if strategy != "none" else "llmrec ids"
    tasks = [make_task(split, log, config, accelerator, histories) for split in config.split.names]
    compared = [run_benchmark(task, config, text, new_reader if trains_backbone else None, name) for task in tasks]
    accelerator.end_training()
    if not accelerator.is_main_process:
        return None

    metadata |= {
        "minutes": timer.minutes,
        "phases": timer.to_record(),
        "seeds_used": {split: list(config.seeds_for_split(split)) for split in config.split.names},
        "data": dataclasses.asdict(log.facts),
    }
    first = compared[0]
    metadata |= first.privacy_record
    if first.drift:
        metadata["drift"] = dataclasses.asdict(
            build_drift_profile(first.drift.head, first.drift.stream, log.catalog.label)
        )
    report = make_report([part.evaluated for part in compared], config.evaluation, name, metadata)
    tuned = first.reader.backbone if first.reader else None
    facts, evaluation = dataclasses.asdict(log.facts), summarize_report(report)
    drift = FittedDrift.from_fit(first.drift, text) if first.drift else None
    bundle = Bundle(config, log.catalog, first.model.cpu(), base, tuned, facts, evaluation, drift)
    if config.evaluation.n_explained_users and histories is None:
        recommender, at = Recommender(bundle, bundle_folder), tasks[0].split.test_start
        tests = measure_faithfulness(recommender, log, at, config.evaluation.n_explained_users)
        told = {"explanations": [dataclasses.asdict(test) for test in tests]}
        report = dataclasses.replace(report, run=report.run | told)
    write_report(report, config.output)
    write_figures(report, config.output / "figures", [point for part in compared for point in part.training])
    save_bundle(bundle_folder, bundle)
    for split in config.split.names:
        print("\n" + render_table(report, split))
    print(f"\n{config.output}: report.md, report.json, figures/, bundle/ ({metadata['minutes']} minutes)")
    return JobResult(report, log)
