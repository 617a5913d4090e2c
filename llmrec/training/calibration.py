"""Set the strength of text similarity and the bias of new items on validation queries after training.

Training cannot estimate how often users take an item without events: such an item is never a target. The validation
window can. With P(q) the probability that the model gives to all new items together in query q,

    novelty = the b for which  mean_q sigmoid(logit P(q) + b) = share of queries whose target is new,

where the likelihood of the validation targets is highest. This one number is added to the scores of new items.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import torch
from torch import Tensor

from llmrec.data.batches import collate_queries
from llmrec.data.histories import Queries
from llmrec.evaluation.model_scorer import ModelScorer, ScoreCache
from llmrec.models.recommender_model import RecommenderModel
from llmrec.models.text_similarity import TextSimilarity
from llmrec.utils.arrays import Mask, Rows

BATCH = 256
MAX_SHIFT = 30.0  # log-odds beyond which probabilities no longer change
MAX_STORED_SCORES = 1 << 28  # stored while the strength is tuned: 1 GiB
STRENGTHS = (0.0, 2.0, 5.0, 10.0, 20.0, 40.0)
RECENCIES = (0.8, 0.6, 0.95)  # the first one is used while the strength is tuned


class SimilarityScorer:
    """Scorer of a model at any strength of its text similarity, for tuning.

    A score is the sum of two parts that do not depend on the strength, the model's own and the cosine of text vectors.
    Both are stored for queries that are scored again.

    Args:
        model: Model with text similarity.

    Raises:
        ValueError: If the model has none.
    """

    def __init__(self, model: RecommenderModel) -> None:
        if model.items.match is None or model.items.text is None:
            raise ValueError("a model without text has no text similarity")
        self.match, self.text, self.config = model.items.match, model.items.text, model.config
        self.match.set_parameters(0.0, 1.0)
        self.own = ModelScorer(model)  # without text similarity
        self._cache = ScoreCache(MAX_STORED_SCORES)

    @cached_property
    def texts(self) -> Tensor:
        """Centered unit vectors of the texts, (N, D_text), by the center at their first use."""
        return self.match.item_vectors(self.text)

    @torch.no_grad()
    def score(self, queries: Queries) -> Tensor:
        """Score the whole catalog for each query at the current strength and recency.

        Args:
            queries: Queries, B of them.

        Returns:
            Scores on the CPU, (B, N); not to be changed in place.
        """
        strength, recency = float(self.match.strength), float(self.match.recency)
        own = self._cache.get(queries, lambda: self._score_own(queries))
        if strength == 0:
            return own
        cosines = self._cache.get(queries, lambda: self._compute_cosines(queries), kind=recency)
        return own.add(cosines, alpha=strength)

    def _score_own(self, queries: Queries) -> Tensor:
        strength, recency = float(self.match.strength), float(self.match.recency)
        self.match.set_parameters(0.0, recency)
        scores = self.own.score(queries)
        self.match.set_parameters(strength, recency)
        return scores

    def _compute_cosines(self, queries: Queries) -> Tensor:
        """Return the cosine of each history's texts with each item's, (B, N)."""
        known = self.config.query_time == "known"
        batch = collate_queries(queries, self.config.max_history, query_time_known=known).to(self.texts.device)
        states = self.match.history_states(self.texts[batch.history], states=batch.find_single_states())[:, 0]
        return (states / self.match.strength @ self.texts.T).float().cpu()


def tune_text_similarity(match: TextSimilarity, text: Tensor, valid_ndcg: Callable[[], float]) -> None:
    """Set the strength, then the recency, of text similarity to the values with the highest metric.

    Args:
        match: Text similarity of a model; changed in place.
        text: Current text vectors of the catalog, (N, D_text).
        valid_ndcg: Computes NDCG@10 on the validation queries with the current parameters.
    """
    match.centre.copy_(text.mean(0))  # codespell:ignore
    tried: dict[tuple[float, float], float] = {}

    def find_best() -> tuple[float, float]:
        return max(tried, key=lambda setting: tried[setting])

    def measure(strength: float, recency: float) -> None:
        match.set_parameters(strength, recency)
        tried[strength, recency] = valid_ndcg()

    for strength in STRENGTHS:
        measure(strength, RECENCIES[0])
    for recency in RECENCIES[1:] if find_best()[0] > 0 else ():
        measure(find_best()[0], recency)
    match.set_parameters(*find_best())


def fit_novelty_bias(logits: Tensor, is_new: Mask) -> float:
    """Return the bias b of new items that solves the equation of this module.

    Queries that only one kind of item can answer carry no information. Half an event is added to both counts, since a
    share of 0 or 1 would require infinite odds.

    Args:
        logits: Log-odds of `compute_new_item_logits`, (Q,).
        is_new: True where the target of a query is a new item, (Q,).

    Returns:
        The bias in log-odds; 0 if no query can be answered with both kinds.

    Source:
        Krichevsky & Trofimov 1981, doi:10.1109/TIT.1981.1056331.
    """
    either = torch.isfinite(logits)
    n_new = float(is_new[either.numpy()].sum())
    return solve_logit_shift(logits[either], (n_new + 0.5) / (int(either.sum()) + 1)) if bool(either.any()) else 0.0


@torch.no_grad()
def compute_new_item_logits(model: RecommenderModel, queries: Queries, *, available: Rows | None = None) -> Tensor:
    """Compute the log-odds that a model gives to all items without a training event against all others.

    Args:
        model: Model that scores the catalog.
        queries: The Q queries.
        available: Release times of the items in seconds, (N,); items released after a query are left out.

    Returns:
        Log-odds, (Q,) float64.
    """
    scorer, known = ModelScorer(model), model.items.known.cpu()
    old, new = torch.nonzero(known).flatten(), torch.nonzero(~known).flatten()
    parts = [torch.zeros(0, dtype=torch.float64)]
    for start in range(0, len(queries), BATCH):
        batch = queries.take(slice(start, start + BATCH))
        scores = scorer.score(batch)  # (B, N)
        if available is not None:
            scores[torch.from_numpy(available > batch.time[:, None])] = -torch.inf
        parts.append(scores.index_select(1, new).logsumexp(1).double() - scores.index_select(1, old).logsumexp(1))
    return torch.cat(parts)


def solve_logit_shift(logits: Tensor, mean: float) -> float:
    """Return the b for which sigmoid(logits + b) has the given mean, by bisection.

    Args:
        logits: Log-odds, any shape with at least one value.
        mean: Wanted mean, between 0 and 1.

    Returns:
        The shift b, to within 1e-6.

    Example:
        >>> round(solve_logit_shift(torch.tensor([0.0, 0.0], dtype=torch.float64), 0.2), 4)  # log(0.2 / 0.8)
        -1.3863
    """
    low, high = -MAX_SHIFT - float(logits.max()), MAX_SHIFT - float(logits.min())
    while high - low > 1e-6:
        middle = (low + high) / 2
        if float(torch.sigmoid(logits + middle).mean()) < mean:
            low = middle
        else:
            high = middle
    return (low + high) / 2
