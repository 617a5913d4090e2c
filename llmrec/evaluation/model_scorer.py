"""Trained model as a scorer of queries, for validation, reports and recommendation."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from llmrec.data.batches import collate_queries
from llmrec.data.histories import Queries
from llmrec.data.repeats import SeenPairs, list_seen
from llmrec.models.recommender_model import RecommenderModel
from llmrec.utils.arrays import Rows


class ModelScorer:
    """Scorer with an item table that is computed once; make a new scorer after the model has changed.

    Args:
        model: Trained model.
    """

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
        """Encode the user state of each query.

        Args:
            queries: Queries, B of them.
            others: Vectors of items outside the catalog, (R, D), which histories refer to as rows N and above.

        Returns:
            User states for scoring, (B, D).
        """
        config, training = self.model.config, self.model.training
        batch = collate_queries(queries, config.max_history, query_time_known=config.query_time == "known").to(
            self.table.device
        )
        self.model.eval()
        table = self.table if others is None else torch.cat([self.table, others.to(self.table)])
        states = self.model.encode_histories(table, batch)
        self.model.train(training)
        return states

    def score(
        self, queries: Queries, others: Tensor | None = None, *, older: tuple[Rows, Rows] | None = None
    ) -> Tensor:
        """Score the whole catalog for each query.

        Args:
            queries: Queries, B of them.
            others: Vectors of items outside the catalog, (R, D), which histories refer to as rows N and above.
            older: (query row, item row) pairs of items that were taken before the histories begin.

        Returns:
            Scores on the CPU, (B, N).
        """
        scores = self.model.score(self.encode_histories(queries, others), self.scoring_items, self.model.items.known)
        return self.add_repeat_bias(scores.float().cpu(), queries, older=older)

    def find_gains(
        self, queries: Queries, *, older: tuple[Rows, Rows] | None = None
    ) -> tuple[SeenPairs, Tensor] | None:
        """Compute what the scores of the items of histories gain.

        Args:
            queries: Queries, B of them.
            older: As in `score`.

        Returns:
            The P pairs, items outside the catalog included, and their gains on the CPU, (P,); None if nothing gains.
        """
        repeats = self.model.repeats
        if not repeats:
            return None
        pairs = list_seen(queries, self.model.config.max_history, older=older)
        return pairs, repeats(*map(torch.from_numpy, pairs[1:])).float().cpu()

    def add_repeat_bias(self, scores: Tensor, queries: Queries, *, older: tuple[Rows, Rows] | None = None) -> Tensor:
        """Add what the items of histories gain to scores, in place.

        Args:
            scores: Scores on the CPU, (B, N) or wider.
            queries: Queries, B of them.
            older: As in `score`.

        Returns:
            The scores.
        """
        gains = self.find_gains(queries, older=older)
        if gains is not None:
            (query, item, *_), gain = gains
            listed = item < len(self.table)
            scores[query[listed], item[listed]] += gain[torch.from_numpy(listed)]
        return scores


class ScoreCache:
    """Scores that are computed once for the same queries, as long as there is room.

    Args:
        capacity: Number of scores to store at most.
    """

    def __init__(self, capacity: int) -> None:
        self._scores: dict[tuple[float | None, bytes], Tensor] = {}
        self._room = capacity

    def get(self, queries: Queries, compute: Callable[[], Tensor], *, kind: float | None = None) -> Tensor:
        """Return stored scores, or compute and store them.

        Args:
            queries: Queries, B of them.
            compute: Computes their scores, (B, N).
            kind: Distinguishes several scores of the same queries.

        Returns:
            Scores, (B, N), not to be changed in place.
        """
        key = kind, b"".join(column.tobytes() for column in (queries.user, queries.time, queries.end))
        if key not in self._scores:
            scores = compute()
            if scores.numel() > self._room:
                return scores
            self._scores[key], self._room = scores, self._room - scores.numel()
        return self._scores[key]
