"""First stages of re-ranking, which propose and order candidates: a baseline or a trained bundle."""

from __future__ import annotations

from dataclasses import astuple
from pathlib import Path

from llmrec.config.jobs.rerank import RerankConfig
from llmrec.data.histories import make_queries
from llmrec.data.interactions import Ties
from llmrec.data.log import Log
from llmrec.data.splits import VALID, Split
from llmrec.errors import ConfigError
from llmrec.evaluation.baselines import BASELINES, BaselineTask, FittedBaseline, Tuning, fit_baselines
from llmrec.evaluation.model_scorer import ModelScorer
from llmrec.hub.bundle import load_bundle

BUNDLE = "bundle"


def fit_first_stages(config: RerankConfig, log: Log, split: Split, ties: Ties) -> dict[str, FittedBaseline]:
    """Fit the first stage and the other baselines of a re-ranking.

    Args:
        config: Settings of the job.
        log: Validated log.
        split: Split of the log.
        ties: Rule for events with equal times.

    Returns:
        Fitted baselines by name, the first stage first.

    Raises:
        ConfigError: If a name is neither a baseline nor the folder of a bundle, or the bundle has another log or split.
    """
    name, evaluation = config.first_stage, config.evaluation
    folder = Path(name)
    if name not in BASELINES and not folder.is_dir():
        raise ConfigError(f"first_stage={name!r}: no folder of a bundle, and none of the baselines {sorted(BASELINES)}")
    found: dict[str, FittedBaseline] = {}
    if name not in BASELINES:
        found[BUNDLE] = _load_bundle_scorer(config, log, folder)
    task = BaselineTask(
        tune_on=split,
        fit_on=split,
        valid=make_queries(split, VALID, ties=ties),
        tuning=Tuning(evaluation.tuning_budget, evaluation.tuning_queries, evaluation.masks_seen(config.data)),
    )
    names = dict.fromkeys([name, *evaluation.baselines] if name in BASELINES else evaluation.baselines)
    return found | fit_baselines(list(names), task)


def _load_bundle_scorer(config: RerankConfig, log: Log, folder: Path) -> FittedBaseline:
    bundle = load_bundle(folder)
    if bundle.facts["fingerprint"] != log.facts.fingerprint:
        raise ConfigError(f"first_stage={folder}: trained on another log than {log.facts.source}")
    trained = bundle.config.split
    if trained.names[0] != "by_time" or astuple(trained)[1:4] != astuple(config.split)[1:4]:
        raise ConfigError(f"first_stage={folder}: trained on the split {trained}, where it may have seen this test")
    return FittedBaseline((ModelScorer(bundle.model),), {"evaluation": bundle.evaluation["main"]})
