"""Matrix model: a vector for each user and each item, a linear layer and binary cross-entropy.

    additive:  logit(u, i) = v . [p_u ; q_i] + c = v_1 . p_u + v_2 . q_i + c
    product:   logit(u, i) = v . (p_u * q_i) + c

`additive` is the form of the founding text. A linear layer over the concatenation is a sum of a user term and an item
term, and the user term is the same for every item: **its ranking of the catalog is the same for all users**, by a
learned popularity. It is a baseline so that this can be measured. `product` (He et al. 2017 call it GMF) is the
smallest change that lets users differ.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from llmrec.data.histories import Queries
from llmrec.data.splits import Split
from llmrec.evaluation.baselines.tuning import Tuning, TuningResult, tune_on_grid
from llmrec.evaluation.ranking import mean_ndcg, sample_queries
from llmrec.utils.arrays import Mask

MatrixForm = Literal["additive", "product"]
_BATCH = 4096
_MAX_EPOCHS = 30
_PATIENCE = 5
_STOPPING_QUERIES = 1000


@dataclass(frozen=True)
class MatrixSettings:
    """Settings of the matrix model."""

    form: MatrixForm = "product"
    """`additive` or `product`."""
    dim: int = 64
    """Width of the vectors."""
    learning_rate: float = 1e-2
    """Learning rate of Adam."""
    weight_decay: float = 1e-5
    """Weight decay of Adam."""
    negatives: int = 4
    """Uniform draws from the catalog for each event."""
    epochs: int = 10
    """Passes over the training events."""
    seed: int = 0
    """Seed of the initial vectors and of the draws."""


class MatrixModel(nn.Module):
    """Matrix model with users (U, D), items (N, D) and weight (2 D,) for `additive` or (D,) for `product`.

    Args:
        n_users: Number of users, U.
        n_items: Number of items of the catalog, N.
        settings: Settings.
    """

    def __init__(self, n_users: int, n_items: int, settings: MatrixSettings) -> None:
        super().__init__()
        self.settings = settings
        generator = torch.Generator().manual_seed(settings.seed)
        width = settings.dim * (2 if settings.form == "additive" else 1)
        self.users = nn.Parameter(torch.randn(n_users, settings.dim, generator=generator) * 0.1)
        self.items = nn.Parameter(torch.randn(n_items, settings.dim, generator=generator) * 0.1)
        self.weight = nn.Parameter(torch.randn(width, generator=generator))
        self.bias = nn.Parameter(torch.zeros(()))

    @classmethod
    def fit(cls, split: Split, settings: MatrixSettings = MatrixSettings()) -> MatrixModel:
        """Train for exactly `settings.epochs`.

        Args:
            split: Split whose training part is used.
            settings: Settings.

        Returns:
            The trained model.
        """
        model = cls(split.n_users, split.n_items, settings)
        for epoch, _ in enumerate(_iterate_epochs(model, split), start=1):
            if epoch == settings.epochs:
                break
        return model._fill_cold_users(split.cold_user_mask())

    @classmethod
    def fit_until_best(
        cls, split: Split, settings: MatrixSettings, valid: Queries, *, mask_seen: bool = True
    ) -> MatrixModel:
        """Train until validation NDCG@10 has not risen for five epochs.

        Args:
            split: Split whose training part is used.
            settings: Settings; `epochs` is ignored.
            valid: Validation queries.
            mask_seen: Whether to mask the items of the history.

        Returns:
            The best model, with its number of epochs in `settings.epochs`.
        """
        model = cls(split.n_users, split.n_items, settings)
        validated = sample_queries(valid, _STOPPING_QUERIES, seed=settings.seed)
        best, best_ndcg, best_epoch = model, -1.0, 0
        for epoch, _ in enumerate(_iterate_epochs(model, split), start=1):
            candidate = copy.deepcopy(model)._fill_cold_users(split.cold_user_mask())
            ndcg = mean_ndcg(candidate, validated, mask_seen=mask_seen)
            if ndcg > best_ndcg:
                best, best_ndcg, best_epoch = candidate, ndcg, epoch
            if epoch - best_epoch >= _PATIENCE or epoch == _MAX_EPOCHS:
                break
        best.settings = replace(settings, epochs=best_epoch)
        return best

    @staticmethod
    def tune(split: Split, valid: Queries, form: MatrixForm, tuning: Tuning) -> TuningResult[MatrixSettings]:
        """Choose settings on validation queries.

        Args:
            split: Split whose training part is used.
            valid: Validation queries.
            form: `additive` or `product`.
            tuning: Budget of the search.

        Returns:
            Tried and chosen settings.
        """

        def build(settings: MatrixSettings) -> tuple[MatrixModel, MatrixSettings]:
            model = MatrixModel.fit_until_best(split, settings, valid, mask_seen=tuning.mask_seen)
            return model, model.settings

        default = MatrixSettings(form, seed=tuning.seed)
        points = product((16, 64), (3e-3, 1e-2), (0.0, 3e-6, 1e-5))
        grid = (replace(default, dim=dim, learning_rate=rate, weight_decay=decay) for dim, rate, decay in points)
        return tune_on_grid(f"matrix ({form})", default, grid, build, valid=valid, tuning=tuning)

    def forward(self, user: Tensor, item: Tensor) -> Tensor:
        """Compute logits.

        Args:
            user: User rows, (B, 1).
            item: Item rows, (B, C).

        Returns:
            Logits, (B, C).
        """
        p, q = functional.embedding(user, self.users), functional.embedding(item, self.items)  # (B, 1, D), (B, C, D)
        if self.settings.form == "additive":
            first, second = self.weight.chunk(2)
            return p @ first + q @ second + self.bias
        return (p * q) @ self.weight + self.bias

    @torch.no_grad()
    def score(self, queries: Queries) -> Tensor:
        """Score the whole catalog for each query.

        Args:
            queries: Queries, B of them.

        Returns:
            Scores, (B, N).
        """
        p = self.users[torch.from_numpy(queries.user)]  # (B, D)
        if self.settings.form == "additive":
            first, second = self.weight.chunk(2)
            return (p @ first)[:, None] + (self.items @ second)[None] + self.bias  # (B, N)
        return (p * self.weight) @ self.items.T + self.bias  # (B, N)

    @torch.no_grad()
    def _fill_cold_users(self, cold: Mask) -> MatrixModel:
        """Replace the initial vectors of users without training events by the mean of the others."""
        self.users[torch.from_numpy(cold)] = self.users[torch.from_numpy(~cold)].mean(dim=0)
        return self


def _iterate_epochs(model: MatrixModel, split: Split) -> Iterator[None]:
    """Train, and yield after each pass over the training events."""
    settings, train = model.settings, split.train
    user, item = torch.from_numpy(train.user), torch.from_numpy(train.item)  # (E,)
    generator = torch.Generator().manual_seed(settings.seed)
    optimizer = torch.optim.Adam(
        model.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True
    )
    while True:
        for rows in torch.split(torch.randperm(len(user), generator=generator), _BATCH):
            drawn = torch.randint(split.n_items, (len(rows), settings.negatives), generator=generator)
            candidates = torch.cat([item[rows, None], drawn], dim=1)  # (B, 1 + negatives)
            logits = model(user[rows, None], candidates)
            wanted = torch.zeros_like(logits)
            wanted[:, 0] = 1.0
            loss = functional.binary_cross_entropy_with_logits(logits, wanted)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        yield
