"""From an interaction log to a fine-tuned, evaluated, usable recommender.

    accelerate launch --config_file recipes/accelerate/ddp.yaml recipes/finetune.py \
        --config recipes/finetune/quickstart.yaml --train.learning_rate 2e-3

Writes report.json, report.md, figures/ and bundle/ into the output folder, and prints the tables.
"""

from __future__ import annotations

import dataclasses
import logging
import time

from llmrec.backbones.adaptation import apply_strategy
from llmrec.backbones.catalog_encoder import Reader
from llmrec.backbones.text_backbone import Backbone
from llmrec.backbones.text_vector_cache import TextCache
from llmrec.config.jobs.finetune import FinetuneConfig
from llmrec.data.loading import load_log
from llmrec.drift.fitted import FittedDrift
from llmrec.drift.profile import portrait
from llmrec.evaluation.aggregate import make_report
from llmrec.hub.bundle import BaseModel, Bundle, save_bundle
from llmrec.hub.layout import check_destination
from llmrec.jobs.comparison import compare
from llmrec.jobs.faithfulness import faithfulness
from llmrec.jobs.runner import run_recipe
from llmrec.recommender import Recommender
from llmrec.reports.figures import write_figures
from llmrec.reports.report_files import write_report
from llmrec.reports.report_text import render_table, summary
from llmrec.runs.provenance import provenance
from llmrec.runs.start import start
from llmrec.training.task import make_task
from llmrec.utils.timing import Phases

logger = logging.getLogger("llmrec.recipes.finetune")


def main(config: FinetuneConfig) -> None:
    began, phases = time.monotonic(), Phases()
    bundle_folder = config.output / "bundle"
    check_destination(bundle_folder)
    accelerator = start(config)
    metadata = provenance(accelerator)  # now: the source tree may be another one when the run ends
    log = load_log(config.data)

    strategy = config.backbone.strategy
    text, base, histories = None, None, None
    if strategy != "none":
        with phases.phase("read"):
            with accelerator.main_process_first():
                frozen = Backbone.load(config.backbone).requires_grad_(False).to(accelerator.device)
            cache = TextCache(frozen, accelerator=accelerator)
            text, base = cache.vectors(log.catalog.text_array), BaseModel.of(frozen)
        if config.model.history_encoder != "sequence":
            histories = Reader.of(frozen, log.catalog.texts(), cache)

    def new_reader() -> Reader:
        backbone = Backbone.load(config.backbone)
        logger.info(apply_strategy(backbone, config.backbone))
        return Reader.of(backbone.to(accelerator.device), log.catalog.texts())

    trains_backbone = strategy not in ("none", "frozen")
    name = f"llmrec {strategy}" if strategy != "none" else "llmrec ids"
    tasks = [make_task(split, log, config, accelerator, histories) for split in config.split.names]
    compared = [compare(task, config, text, new_reader if trains_backbone else None, name, phases) for task in tasks]
    accelerator.end_training()
    if not accelerator.is_main_process:
        return

    metadata |= {
        "minutes": round((time.monotonic() - began) / 60, 1),
        "phases": phases.record(),
        "seeds_used": {split: list(config.seeds_of(split)) for split in config.split.names},
        "data": dataclasses.asdict(log.facts),
    }
    first = compared[0]
    metadata |= first.told
    if first.drift:
        metadata["drift"] = dataclasses.asdict(portrait(first.drift.head, first.drift.stream, log.catalog.label))
    report = make_report([part.evaluated for part in compared], config.evaluation, name, metadata)
    tuned = first.reader.backbone if first.reader else None
    facts, evaluation = dataclasses.asdict(log.facts), summary(report)
    drift = FittedDrift.of(first.drift, text) if first.drift else None
    bundle = Bundle(config, log.catalog, first.model.cpu(), base, tuned, facts, evaluation, drift)
    if config.evaluation.explained and histories is None:
        recommender, at = Recommender(bundle, bundle_folder), tasks[0].split.test_start
        tests = faithfulness(recommender, log, at, config.evaluation.explained)
        told = {"explanations": [dataclasses.asdict(test) for test in tests]}
        report = dataclasses.replace(report, run=report.run | told)
    write_report(report, config.output)
    write_figures(report, config.output / "figures", [point for part in compared for point in part.training])
    save_bundle(bundle_folder, bundle)
    for split in config.split.names:
        print("\n" + render_table(report, split))
    print(f"\n{config.output}: report.md, report.json, figures/, bundle/ ({metadata['minutes']} minutes)")


if __name__ == "__main__":
    run_recipe(main, FinetuneConfig)
