"""From one or several domains to another: what knowing them is worth there, four ways, and which of these to use.

    accelerate launch recipes/transfer.py --config recipes/transfer.yaml --data.source TARGET \
        --sources '[{source: SOURCE, order_column: seq_pos}]'

Writes report.json, report.md, figures/ and bundle/ into the output folder, and prints the table and a verdict.
"""

from __future__ import annotations

import dataclasses
import logging
import time

from llmrec.backbones.adaptation import apply_strategy
from llmrec.backbones.text_backbone import Backbone
from llmrec.backbones.text_vector_cache import TextCache
from llmrec.config.jobs.transfer import TransferConfig
from llmrec.data.loading import load_log
from llmrec.evaluation.aggregate import make_report, primary_metric, queries_of_test
from llmrec.evaluation.model_scorer import ModelScorer
from llmrec.hub.bundle import BaseModel, Bundle, save_bundle
from llmrec.hub.layout import check_destination
from llmrec.jobs.comparison import Comparison
from llmrec.jobs.runner import run_recipe
from llmrec.reports.figures import write_figures
from llmrec.reports.report_files import write_report
from llmrec.reports.report_text import render_table, summary
from llmrec.runs.provenance import provenance
from llmrec.runs.start import start
from llmrec.training.cross_domain import Domain, Schooling, chosen, source_domain, verdict
from llmrec.training.task import make_task

logger = logging.getLogger("llmrec.recipes.transfer")


def main(config: TransferConfig) -> None:
    began = time.monotonic()
    bundle_folder = config.output / "bundle"
    check_destination(bundle_folder)
    accelerator = start(config)
    metadata = provenance(accelerator)
    log, sources = load_log(config.data), [load_log(source) for source in config.sources]

    def new_backbone() -> Backbone:
        backbone = Backbone.load(config.backbone)
        logger.info(apply_strategy(backbone, config.backbone))
        return backbone.to(accelerator.device)

    finetune = config.finetune()
    task = make_task("by_time", log, finetune, accelerator)
    task = dataclasses.replace(task, split=task.split.thinned(config.share), inputs=f"{task.inputs} {config.share}")
    with accelerator.main_process_first():
        pretrained = Backbone.load(config.backbone).to(accelerator.device)
    read = TextCache(pretrained, accelerator=accelerator).vectors
    target = Domain(task, log.catalog.texts(), read(log.catalog.texts()))
    source = source_domain(sources, task, finetune, read)
    schooling = Schooling(finetune, None if config.backbone.strategy == "frozen" else new_backbone)
    comparison = Comparison(task, finetune, queries_of_test(task.split, task.ties, config.evaluation))
    learnt = []
    for seed in config.seeds:
        learnt.append(schooling.four_ways(source, target, seed))
        for way, one in learnt[-1].items():
            comparison.rank(way, ModelScorer(one.model))
    comparison.baselines(target.vectors)
    way, means = chosen(learnt)
    evaluated = comparison.evaluate(way, target.vectors, also=("initialised", "zero-shot"))
    accelerator.end_training()
    if not accelerator.is_main_process:
        return

    metadata |= {
        "minutes": round((time.monotonic() - began) / 60, 1),
        "data": dataclasses.asdict(log.facts),
        "sources": [dataclasses.asdict(part.facts) for part in sources],
        "share": config.share,
        "transfer": verdict(evaluated, primary_metric(config.evaluation), way, means),
    }
    report = make_report([evaluated], config.evaluation, way, metadata)
    write_report(report, config.output)
    write_figures(report, config.output / "figures", [])
    best, base = learnt[0][way], BaseModel.of(pretrained)
    facts, evaluation = dataclasses.asdict(log.facts), summary(report)
    save_bundle(bundle_folder, Bundle(finetune, log.catalog, best.model.cpu(), base, best.backbone, facts, evaluation))
    print("\n" + render_table(report, "by_time"))
    print(f"\n{metadata['transfer']}\n{config.output}: report.md, report.json, figures/, bundle/")


if __name__ == "__main__":
    run_recipe(main, TransferConfig)
