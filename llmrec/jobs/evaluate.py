"""A saved model ranked again on the test part of a split."""

from __future__ import annotations

from accelerate import Accelerator

from llmrec.config.jobs.finetune import FinetuneConfig
from llmrec.data.interactions import Ties
from llmrec.data.splits import Split
from llmrec.evaluation.aggregate import evaluate_split, make_report, make_test_queries
from llmrec.evaluation.model_scorer import ModelScorer
from llmrec.evaluation.results import Report
from llmrec.evaluation.slices import make_slices
from llmrec.models.recommender_model import RecommenderModel
from llmrec.training.distributed.parallel_ranking import rank_in_parallel
from llmrec.training.task import make_protocol
from llmrec.utils.arrays import Rows
from llmrec.utils.run_logging import phase


@phase("evaluate")
def evaluate_bundle(
    model: RecommenderModel,
    split: Split,
    ties: Ties,
    available: Rows | None,
    config: FinetuneConfig,
    name: str,
    accelerator: Accelerator | None = None,
) -> Report:
    """Every metric by slice. available: (N,) release times, where there are any. accelerator: of processes that share
    the queries, and then all get the report.
    """
    evaluation = config.evaluation
    queries = make_test_queries(split, ties, evaluation)
    ranking = rank_in_parallel(
        ModelScorer(model),
        queries,
        split.n_items,
        accelerator,
        max(evaluation.cutoffs),
        evaluation.mask_seen,
        available,
        "ranking",
    )
    slices = make_slices(split.merge_validation() if config.train.refit else split, queries)
    protocol = make_protocol(split, ties, config, available is not None)
    evaluated = evaluate_split(split.name, queries, slices, {name: [ranking]}, protocol, evaluation, name)
    return make_report([evaluated], evaluation, name, {})
