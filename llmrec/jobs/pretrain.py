"""Continue the pretraining of a backbone on the texts and events of a domain before fine-tuning."""

from __future__ import annotations

import dataclasses
import logging

from accelerate import Accelerator

from llmrec.backbones.adaptation import apply_strategy
from llmrec.backbones.catalog_encoder import CatalogEncoder
from llmrec.backbones.lm_head import make_head
from llmrec.backbones.text_backbone import TextBackbone
from llmrec.config.jobs.pretrain import PretrainConfig
from llmrec.data.items.field_dropout import drop_fields
from llmrec.data.loading import load_log
from llmrec.data.log import Log
from llmrec.data.readers.memory import LogTables
from llmrec.hub.base_model import BaseModelInfo
from llmrec.hub.layout import check_destination
from llmrec.hub.pretrained_backbone import RECORD, save_pretrained
from llmrec.reports.audit_text import format_corpus
from llmrec.runs.finish import print_results
from llmrec.runs.provenance import collect_provenance
from llmrec.runs.start import start_run
from llmrec.training.checkpoints import Progress
from llmrec.training.distributed.collectives import encode_catalog
from llmrec.training.item_adaptation.adapt_items import train_on_items
from llmrec.training.pretraining.corpus import PretrainCorpus, make_corpus, select_training_split
from llmrec.training.pretraining.history_corpus import make_history_corpus
from llmrec.training.pretraining.pretrain_objectives import PretrainObjective
from llmrec.training.pretraining.pretrainer import Pretrainer, make_pretrain_tasks, make_run
from llmrec.training.training_loop import RunState
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
    run = make_run(config, log.facts.fingerprint + base.fingerprint)
    train = _train_on_items if "items" in config.objectives else _train_on_objectives
    progress = train(config, log, corpus, backbone, accelerator=accelerator, run=run)
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
    judged = f"NDCG@10 of held-out items {progress.best:.4f}"
    if "items" not in config.objectives:
        judged = f"held-out loss {-progress.best:.4f}"
    print_results(f"{folder}: step {progress.best_epoch:g} of {progress.step}, {judged}")


def _train_on_objectives(
    config: PretrainConfig,
    log: Log,
    corpus: PretrainCorpus,
    backbone: TextBackbone,
    *,
    accelerator: Accelerator,
    run: RunState,
) -> Progress:
    """Train by words and pairs, until their held-out losses stop falling."""
    with accelerator.main_process_first():
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
    return Pretrainer(objective, readings, config.train, accelerator, run=run).fit()


def _train_on_items(
    config: PretrainConfig,
    log: Log,
    _: PretrainCorpus,
    backbone: TextBackbone,
    *,
    accelerator: Accelerator,
    run: RunState,
) -> Progress:
    """Train by items of one user, until the ranking of held-out items stops improving."""
    reader = CatalogEncoder.from_texts(backbone.to(accelerator.device), log.catalog.list_texts())
    text = encode_catalog(reader, accelerator)
    logger.info(apply_strategy(backbone, config.backbone))
    items, dropped = config.adapt_items, None
    if items.field_dropout:
        dropped = drop_fields(log.catalog, items.field_dropout, config.seed)
    return train_on_items(
        select_training_split(log, config.split),
        items,
        accelerator,
        reader=reader,
        targets=None,
        text=text,
        second_texts=dropped,
        run=run,
    )
