"""Re-rank candidates by the likelihood that an untrained decoder gives their text after the history."""

from __future__ import annotations

import dataclasses

from llmrec.backbones.likelihood import LineLikelihood
from llmrec.backbones.text_backbone import TextBackbone
from llmrec.config.jobs.rerank import RerankConfig
from llmrec.data.loading import load_log
from llmrec.data.splits import make_split
from llmrec.errors import ConfigError
from llmrec.evaluation.aggregate import evaluate_split, make_report, make_test_queries
from llmrec.evaluation.baselines import FittedBaseline
from llmrec.evaluation.candidate_ranking import (
    CandidatePool,
    LikelihoodReranker,
    draw_random_scores,
    first_stage_candidates,
    gather_scores,
    rank_candidates,
    sample_candidates,
)
from llmrec.evaluation.model_rows import ModelRow
from llmrec.evaluation.results import Protocol
from llmrec.evaluation.run_metadata import RunMetadata
from llmrec.evaluation.slices import make_slices
from llmrec.jobs.candidates import BUNDLE, fit_first_stages
from llmrec.jobs.result import JobResult
from llmrec.runs.finish import finish, print_results
from llmrec.runs.provenance import collect_provenance
from llmrec.runs.start import start_run
from llmrec.utils.timing import timer

RANDOM_ORDERS = 5


def run_rerank(config: RerankConfig) -> JobResult:
    """Re-rank candidates by a pretrained decoder, and write the report.

    Args:
        config: Settings of the job.

    Returns:
        The report and the log.

    Raises:
        ConfigError: If the run has several processes.
    """
    accelerator = start_run(config)
    if accelerator.num_processes > 1:
        raise ConfigError("recipes/rerank.py runs in one process; launch it with --num_processes 1")
    provenance = collect_provenance(accelerator)
    log = load_log(config.data)

    evaluation = config.evaluation
    split, ties = make_split("by_time", log.interactions, log.n_users, log.n_items, config=config.split)
    queries = make_test_queries(split, ties, evaluation, with_history=True)
    stages = fit_first_stages(config, log, split, ties)
    mask_seen = evaluation.masks_seen(config.data)
    first, pool = next(iter(stages)), CandidatePool(config.n_candidates, mask_seen, log.catalog.release_time)
    if config.candidate_source == "first_stage":
        candidates = first_stage_candidates(first, stages[first].scorers[0], queries, pool, seed=config.seed)
    else:
        candidates = sample_candidates(split, queries, pool, config.seed)
    print_results(
        f"{len(queries):,} queries, {candidates.description}; {candidates.target_recall(queries):.1%} hold their target"
    )

    likelihood = LineLikelihood(TextBackbone.load(config.backbone).to(accelerator.device))
    judge = LikelihoodReranker(likelihood, likelihood.tokenize_lines(log.catalog.list_texts()), config.prompt)
    with timer.section("rerank") as spent, accelerator.autocast():
        judged = judge.score(queries, candidates.items, config.score_types, describe="reading candidates")

    rows = {name: _get_stage_row(name, stage) for name, stage in stages.items()}
    scores = {ModelRow("rerank", f"lm_{kind}"): [of_kind] for kind, of_kind in judged.items()}
    scores |= {rows[name]: [gather_scores(stage.scorers[0], queries, candidates)] for name, stage in stages.items()}
    scores[ModelRow("rerank", "random")] = [
        draw_random_scores(candidates.items.shape, config.seed + number) for number in range(RANDOM_ORDERS)
    ]
    n_top, headline = max(evaluation.cutoffs), ModelRow("rerank", f"lm_{config.score_types[0]}")
    rankings = {
        row: [rank_candidates(candidates, each, queries, n_top) for each in orders] for row, orders in scores.items()
    }
    protocol = Protocol(
        log.n_items,
        ties,
        "last_event",
        mask_seen,
        release_dates=log.catalog.release_time is not None,
        streaming=tuple(row.name for row in rows.values() if row.refresh is not None),
        first_days=evaluation.first_days,
        candidates=f"{candidates.description}; targets without a history are left out",
    )
    settings = {rows[name].name: stage.record for name, stage in stages.items()}
    settings[headline.name] = {"max_tokens": config.backbone.max_tokens, **dataclasses.asdict(config.prompt)}
    slices = make_slices(split, queries)
    evaluated = evaluate_split(
        "by_time",
        queries,
        slices,
        rankings,
        protocol=protocol,
        config=evaluation,
        main=headline,
        settings=settings,
        also=[rows[first]],
    )
    run = RunMetadata(
        **provenance,
        minutes=timer.minutes,
        phases=timer.to_record(),
        data=dataclasses.asdict(log.facts),
        first_stage=rows[first].name,
        targets_among_candidates=candidates.target_recall(queries),
        cpu_seconds_per_query=round(spent.cpu / len(queries), 2),
    )
    accelerator.end_training()
    report = make_report([evaluated], evaluation, run)
    finish(report, None, config.output, notes=[f"{spent.cpu / len(queries):.2f} CPU seconds a query"])
    return JobResult(report, log)


def _get_stage_row(name: str, stage: FittedBaseline) -> ModelRow:
    """Return the row of a baseline, or of the bundle that proposes candidates."""
    if name != BUNDLE:
        return ModelRow("baseline", name, stage.refresh)
    return ModelRow("rerank", BUNDLE)
