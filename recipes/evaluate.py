"""A saved recommender ranks the test part of a log again, its queries shared among processes.

    accelerate launch --num_processes 2 recipes/evaluate.py --bundle runs/mine/bundle --data.source FOLDER

Writes report.json and report.md into the output folder, and prints every metric by slice. The figures are those of one
process, to the same bits, however many share the work.
"""

from __future__ import annotations

import dataclasses
import logging
import time

from llmrec.config.jobs.evaluate import EvaluateConfig
from llmrec.data.splits import make_split
from llmrec.hub.training_log import load_bundle_and_log, training_overlap_warning
from llmrec.jobs.evaluate import evaluate_bundle
from llmrec.jobs.runner import run_job
from llmrec.reports.report_files import write_report
from llmrec.reports.report_text import render_slices
from llmrec.runs.provenance import collect_provenance
from llmrec.runs.start import join_run

logger = logging.getLogger("llmrec.recipes.evaluate")


def main(config: EvaluateConfig) -> None:
    began = time.monotonic()
    accelerator = join_run(config)
    metadata = collect_provenance(accelerator)
    loaded, log = load_bundle_and_log(config.bundle, config.data, config.backbone)

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
        return

    metadata["minutes"] = round((time.monotonic() - began) / 60, 1)
    write_report(dataclasses.replace(report, run=metadata | report.run), config.output)
    print(render_slices(report, split))
    print(f"\n{config.output}: report.md, report.json ({metadata['minutes']} minutes)")


if __name__ == "__main__":
    run_job(main, EvaluateConfig)
