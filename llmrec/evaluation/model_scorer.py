"""A trained model as a scorer of queries, for validation, reports and recommendation alike."""

from __future__ import annotations

import torch
from torch import Tensor

from llmrec.data.batches import collate_queries
from llmrec.data.histories import Queries
from llmrec.models.recommender_model import RecommenderModel


class ModelScorer:
    """Scores against an item table computed once; build a new scorer after the model has changed."""

    @torch.no_grad()
    def __init__(self, model: RecommenderModel) -> None:
        self.model = model
        training = model.training
        model.eval()
        self.table = model.items()  # (N, D)
        self.scoring_items = model.scoring_vectors(self.table)
        model.train(training)

    @torch.no_grad()
    def encode_histories(self, queries: Queries, others: Tensor | None = None) -> Tensor:
        """(B, D) user states, as the scores see them. others: (R, D) vectors of items that histories hold beside those
        of the catalog, as rows N on.
        """
        config, training = self.model.config, self.model.training
        batch = collate_queries(queries, config.max_history, config.query_time == "known").to(self.table.device)
        self.model.eval()
        table = self.table if others is None else torch.cat([self.table, others.to(self.table)])
        states = self.model.encode_histories(table, batch)
        self.model.train(training)
        return states

    def score(self, queries: Queries, others: Tensor | None = None) -> Tensor:
        """(B, N) scores of every catalog item, on the CPU; `others` as in `encode_histories`."""
        scores = self.model.score(self.encode_histories(queries, others), self.scoring_items, self.model.items.known)
        return scores.float().cpu()
