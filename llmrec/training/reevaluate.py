"""A saved model ranked again on the test part of a split."""

from __future__ import annotations

from llmrec.config import FinetuneConfig
from llmrec.data.interactions import Rows, Ties
from llmrec.data.splits import Split
from llmrec.evaluation.evaluate import evaluate_split, make_report, queries_of_test
from llmrec.evaluation.ranking import rank_queries
from llmrec.evaluation.slices import make_slices
from llmrec.evaluation.tables import render_slices
from llmrec.models.recommender_model import RecommenderModel
from llmrec.training.comparison import protocol_of
from llmrec.training.scorer import ModelScorer


def reevaluate(
    model: RecommenderModel, split: Split, ties: Ties, available: Rows | None, config: FinetuneConfig, name: str
) -> str:
    """A table of every metric by slice, in plain columns. available: (N,) release times, where there are any."""
    evaluation = config.evaluation
    queries = queries_of_test(split, ties, evaluation)
    scorer, n_top = ModelScorer(model), max(evaluation.cutoffs)
    ranking = rank_queries(scorer, queries, n_top, evaluation.mask_seen, available=available, progress="ranking")
    slices = make_slices(split.refit() if config.train.refit else split, queries)
    protocol = protocol_of(split, ties, config, available is not None)
    evaluated = evaluate_split(split.name, queries, slices, {name: [ranking]}, protocol, evaluation, name)
    return render_slices(make_report([evaluated], evaluation, name, {}), split.name)
