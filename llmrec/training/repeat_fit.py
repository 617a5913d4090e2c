"""Fit what items of the history gain, by maximum likelihood on validation queries after training.

With s the scores, H the items of a query's history, and b_j = w . x_j the gain of j in H,

    minus log-likelihood = log(sum of exp(s_i) over i not in H + sum of exp(s_j + b_j) over j in H) - (s + b)[target],

which is convex in w. A model is trained on the softmax over all items, where it cannot distinguish items of the
history; and how often they are taken again is known to the log, not to the text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from llmrec.data.histories import Queries
from llmrec.data.repeats import list_seen
from llmrec.evaluation.model_scorer import ModelScorer
from llmrec.models.recommender_model import RecommenderModel
from llmrec.models.repeat_bias import N_FEATURES, RepeatBias
from llmrec.utils.arrays import Rows

BATCH = 256
MAX_STEPS = 200
# L2, per query: next to none on the constant, so that a log without repeats rules them out.
CONSTANT_PENALTY, PENALTY = 1e-6, 1e-3


class RepeatEvidence(NamedTuple):
    """Q queries with everything that the likelihood depends on, and the P items of their histories."""

    rest: Tensor
    """Log of the summed exp of the scores of all items outside the history, (Q,) float64."""
    query: Tensor
    """Query rows, (P,)."""
    score: Tensor
    """Scores without gain, (P,) float64."""
    features: Tensor
    """Features, (P, N_FEATURES) float64."""
    is_target: Tensor
    """True for the query's target, (P,)."""


@torch.no_grad()
def collect_evidence(model: RecommenderModel, queries: Queries, *, available: Rows | None = None) -> RepeatEvidence:
    """Score queries without gains.

    Args:
        model: Model with a `RepeatBias`, whose weights are zeros.
        queries: The Q queries.
        available: Release times of the items in seconds, (N,); items released after a query are left out.

    Returns:
        The evidence.

    Raises:
        ValueError: If the model has no `RepeatBias`.
    """
    if model.repeats is None:
        raise ValueError("a model without repeat_bias has no gains to fit")
    scorer, found = ModelScorer(model), [_no_evidence()]
    for start in range(0, len(queries), BATCH):
        batch = queries.take(slice(start, start + BATCH))
        scores = scorer.score(batch)  # (B, N)
        if available is not None:
            scores[torch.from_numpy(available > batch.time[:, None])] = -torch.inf
        pairs = list_seen(batch, model.config.max_history)
        query, item, gap, count = map(torch.from_numpy, pairs)
        own = scores[query, item].double()
        scores[query, item] = -torch.inf
        features = model.repeats.features(item, gap, count).cpu().double()
        is_target = torch.from_numpy(batch.target[pairs.query] == pairs.item)
        found.append(RepeatEvidence(scores.logsumexp(1).double(), query + start, own, features, is_target))
    return RepeatEvidence(*map(torch.cat, zip(*found, strict=True)))


def join_evidence(parts: Sequence[RepeatEvidence]) -> RepeatEvidence:
    """Join the evidence of several processes.

    Args:
        parts: Evidence on different queries.

    Returns:
        Evidence on all of them.
    """
    sizes = [0, *(len(part.rest) for part in parts)]
    starts = torch.tensor(sizes).cumsum(0).tolist()
    moved = [part._replace(query=part.query + start) for part, start in zip(parts, starts, strict=False)]
    return RepeatEvidence(*map(torch.cat, zip(*moved, strict=True)))


def fit_repeat_bias(repeats: RepeatBias, evidence: RepeatEvidence) -> None:
    """Set the weights of maximum likelihood, zeros without any query that has both kinds of items.

    Args:
        repeats: Changed in place.
        evidence: Queries with their scores.
    """
    weights = torch.zeros(N_FEATURES, dtype=torch.float64, requires_grad=True)
    counted = torch.isfinite(evidence.rest[evidence.query]) & torch.isfinite(evidence.score)
    if bool(counted.any()):
        seen = RepeatEvidence(evidence.rest, *(column[counted] for column in evidence[1:]))
        optimizer = torch.optim.LBFGS([weights], max_iter=MAX_STEPS, line_search_fn="strong_wolfe")

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = negative_log_likelihood(weights, seen) + _penalty(weights)
            loss.backward()  # type: ignore[no-untyped-call]
            return loss

        optimizer.step(closure)  # type: ignore[no-untyped-call]
    repeats.set_weights(weights.detach())


def negative_log_likelihood(weights: Tensor, seen: RepeatEvidence) -> Tensor:
    """Compute minus the mean log-probability of the targets, up to a constant.

    Args:
        weights: Weights of the features, (N_FEATURES,) float64.
        seen: Queries with finite scores.

    Returns:
        Scalar, ().
    """
    gain = seen.features @ weights
    odds = seen.score + gain - seen.rest[seen.query]  # against all other items together
    largest = torch.zeros_like(seen.rest).scatter_reduce(0, seen.query, odds.detach(), "amax")  # at least 0
    total = (-largest).exp().index_add(0, seen.query, (odds - largest[seen.query]).exp())
    return ((total.log() + largest).sum() - gain[seen.is_target].sum()) / len(seen.rest)


def _penalty(weights: Tensor) -> Tensor:
    return CONSTANT_PENALTY * weights[0].square() + PENALTY * weights[1:].square().sum()


def _no_evidence() -> RepeatEvidence:
    none, rows = torch.zeros(0, dtype=torch.float64), torch.zeros(0, dtype=torch.int64)
    return RepeatEvidence(none, rows, none, torch.zeros(0, N_FEATURES, dtype=torch.float64), rows.bool())
