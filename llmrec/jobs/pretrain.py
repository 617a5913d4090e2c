"""Continue the pretraining of a backbone on the texts and events of a domain before fine-tuning."""

from __future__ import annotations

import dataclasses
import logging

from llmrec.backbones.adaptation import apply_strategy
from llmrec.backbones.lm_head import make_head
from llmrec.backbones.text_backbone import TextBackbone
from llmrec.config.jobs.pretrain import PretrainConfig
from llmrec.data.loading import load_log
from llmrec.data.readers.memory import LogTables
from llmrec.hub.base_model import BaseModelInfo
from llmrec.hub.layout import check_destination
from llmrec.hub.pretrained_backbone import RECORD, save_pretrained
from llmrec.reports.audit_text import format_corpus
from llmrec.runs.finish import print_results
from llmrec.runs.provenance import collect_provenance
from llmrec.runs.start import start_run
from llmrec.training.pretraining.corpus import make_corpus
from llmrec.training.pretraining.history_corpus import make_history_corpus
from llmrec.training.pretraining.pretrain_objectives import PretrainObjective
from llmrec.training.pretraining.pretrainer import Pretrainer, make_pretrain_tasks, make_run
from llmrec.utils.timing import timer

logger = logging.getLogger(__name__)


def run_pretrain(config: PretrainConfig, tables: LogTables | None = None) -> None:
    """Continue the pretraining of a backbone on a log, and write it to `output/backbone`.

    Args:
        config: Settings of the job.
        tables: Events and items in memory, instead of the sources in `config.data`.
    """
    folder = config.output / "backbone"
    check_destination(folder, RECORD, kind="a pretrained backbone")
    accelerator = start_run(config)
    metadata = collect_provenance(accelerator)  # now: the source tree may change during the run
    log = load_log(config.data, tables)
    corpus = make_corpus(log, config)
    logger.info("\n".join(format_corpus(corpus)))

    with accelerator.main_process_first():
        backbone = TextBackbone.load(config.backbone)
        base = BaseModelInfo.from_backbone(backbone)
        head = make_head(backbone, config.objectives)
    logger.info(apply_strategy(backbone, config.backbone))
    if head is not None:
        logger.info(head.describe_origin())

    objective = PretrainObjective(backbone, head, config.contrast.temperature)
    tokens = backbone.tokenize(log.catalog.list_texts())
    histories = make_history_corpus(log, backbone, config) if "histories" in config.objectives else None
    if histories is not None:
        logger.info(f"{len(histories.train):,} texts of histories to train on, {len(histories.held):,} held out")
    readings = make_pretrain_tasks(corpus, tokens, backbone.tokenizer, config, histories=histories)
    run = make_run(config, log.facts.fingerprint + base.fingerprint)
    progress = Pretrainer(objective, readings, config.train, accelerator, run=run).fit()
    accelerator.end_training()
    if not accelerator.is_main_process:
        return

    record = {
        "config": dataclasses.asdict(config),
        "base": dataclasses.asdict(base),
        "data": dataclasses.asdict(log.facts),
        "corpus": corpus.to_record(),
        "best_step": progress.best_epoch,
        "history": progress.history,
        "run": metadata | {"minutes": timer.minutes},
    }
    save_pretrained(folder, backbone.cpu(), record)
    print_results(f"{folder}: step {progress.best_epoch:g} of {progress.step}, held-out loss {-progress.best:.4f}")
