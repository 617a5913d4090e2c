"""Batches and losses by which a backbone learns from items: `align` and `contrast`.

`align`: a linear map of an item's text vector comes close to the item's fitted vector, and closer than to those of the
other items of the step (InfoNCE). `contrast`: the vectors of two items that a user chose soon after each other are
closer than those of others.

Source:
    align: CLCRec, Wei et al. 2021, arXiv:2107.05315, through the encoder; contrast: van den Oord et al. 2018,
    arXiv:1807.03748, with the logQ correction of Yi et al. 2019, doi:10.1145/3298689.3346996.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from llmrec.utils.arrays import Rows

SCALES = (1.0, 2.0, 4.0, 6.0, 8.0, 12.0, 16.0)  # of cosines; the best one begins
RIDGE = 0.1  # of the map that begins, relative to the mean variance of text vectors: it must not memorize items
COSINE = 0.5  # weight of the distance of an item's vector to its target


class ItemStep(NamedTuple):
    """Items of a step: the same in all processes."""

    rows: Rows
    """Catalog rows to read, increasing, (U,)."""
    anchor: Tensor
    """Rows of U, (A,)."""
    positive: Tensor
    """Rows of U, (A,); empty for align."""
    column: Tensor
    """Rows of U that anchors are compared with, (C,)."""
    log_expected: Tensor
    """Log of how often the item of a column is expected among the columns, (C,)."""
    masked: Tensor
    """True for columns that are no negatives of an anchor, (A, C)."""
    weight: Tensor
    """Weight of each anchor; they sum to 1, (A,)."""


class ItemLoss(nn.Module, ABC):
    """Base of losses: the steps, and the loss of one."""

    @abstractmethod
    def draw_step(self, step: int, seed: int) -> ItemStep:
        """Draw the items of a step.

        Args:
            step: Number of the step, from 0.
            seed: Seed of the draws.

        Returns:
            The step.
        """

    @abstractmethod
    def forward(self, vectors: Tensor, step: ItemStep) -> Tensor:
        """Compute the loss of a step.

        Args:
            vectors: Text vectors of the items of the step, (U, D_text).
            step: The step.

        Returns:
            The loss, a scalar.
        """

    def begin(self, vectors: Tensor, steps: list[ItemStep]) -> None:
        """Set the scale of cosines to the best one for vectors as they are.

        Args:
            vectors: Text vectors of the catalog, (N, D_text).
            steps: Some steps.
        """
        losses = []
        with torch.no_grad():
            for scale in SCALES:
                self.log_scale.fill_(math.log(scale))
                losses.append(sum(float(self(vectors[torch.from_numpy(step.rows)], step)) for step in steps))
            self.log_scale.fill_(math.log(SCALES[int(np.argmin(losses))]))

    log_scale: nn.Parameter
    """Log of the factor of cosines, ()."""


class AlignLoss(ItemLoss):
    """Fitted item vectors from texts.

    Args:
        targets: Fitted vectors of the catalog, (N, D).
        text: Text vectors of the catalog before training, (N, D_text).
        counts: Training events of each item, (N,).
        items: Catalog rows to learn from, (K,).
        size: Items of a step.
    """

    targets: Tensor
    """Whitened unit vectors to learn, (N, D)."""

    def __init__(self, targets: Tensor, text: Tensor, counts: NDArray[np.int64], items: Rows, *, size: int) -> None:
        super().__init__()
        self.items, self.size = items, min(size, len(items))
        self.importance = torch.from_numpy(np.sqrt(counts)).float()
        own = torch.from_numpy(items)
        white = whiten(targets, own)
        self.register_buffer("targets", functional.normalize(white, dim=-1), persistent=False)
        self.log_scale = nn.Parameter(torch.zeros(()))
        self.map = nn.Linear(text.shape[1], white.shape[1])
        weight, bias = fit_ridge(text[own], self.targets[own])
        self.map.weight.data, self.map.bias.data = weight, bias

    def draw_step(self, step: int, seed: int) -> ItemStep:  # noqa: D102
        per_epoch = max(len(self.items) // self.size, 1)
        order = np.random.default_rng((seed, step // per_epoch)).permutation(self.items)
        rows = np.sort(np.array_split(order, per_epoch)[step % per_epoch])
        place, weight = torch.arange(len(rows)), self.importance[torch.from_numpy(rows)]
        nothing = torch.zeros(len(rows), len(rows), dtype=torch.bool)
        return ItemStep(rows, place, place[:0], place, torch.zeros(len(rows)), nothing, weight / weight.sum())

    def forward(self, vectors: Tensor, step: ItemStep) -> Tensor:  # noqa: D102
        mapped = functional.normalize(self.map(vectors), dim=-1)
        targets = self.targets[torch.from_numpy(step.rows).to(vectors.device)]
        cosines = mapped @ targets.T
        contrast = functional.cross_entropy(
            self.log_scale.exp() * cosines, torch.arange(len(targets), device=vectors.device), reduction="none"
        )
        return ((contrast + COSINE * (1 - cosines.diagonal())) * step.weight.to(vectors)).sum()


class ContrastLoss(ItemLoss):
    """Items of one user close to each other.

    Args:
        pairs: Catalog rows of the pairs, (P, 2).
        user: User of each pair, (P,).
        seen: Items of each user as (user, item) keys user * N + item, increasing.
        text_class: Number of the distinct text of each item, (N,).
        hard: Similar items that no user has together with each, (N, H); -1 for none.
        known: Catalog rows to draw negatives from, (K,).
        n_pairs: Pairs of a step.
        n_negatives: Uniform negatives of a step.
        n_hard: Hard negatives of a step.
    """

    def __init__(
        self,
        pairs: Rows,
        *,
        user: Rows,
        seen: Rows,
        text_class: Rows,
        hard: Rows,
        known: Rows,
        n_pairs: int,
        n_negatives: int,
        n_hard: int,
    ) -> None:
        super().__init__()
        self.pairs, self.user, self.seen, self.text_class, self.hard = pairs, user, seen, text_class, hard
        self.known, self.n_pairs, self.n_negatives, self.n_hard = known, n_pairs, n_negatives, n_hard
        weight = 1.0 / np.bincount(user)[user]  # each user counts the same
        self.cumulative = np.cumsum(weight / weight.sum())
        places = np.bincount(pairs.ravel(), weights=np.repeat(weight, 2), minlength=len(text_class))
        self.share = np.maximum(places, weight.min()) / (2 * weight.sum())
        self.log_scale = nn.Parameter(torch.zeros(()))

    def draw_step(self, step: int, seed: int) -> ItemStep:  # noqa: D102
        rng = np.random.default_rng((seed, step))
        drawn = np.searchsorted(self.cumulative, rng.random(self.n_pairs)).clip(max=len(self.pairs) - 1)
        both = np.concatenate([self.pairs[drawn, 0], self.pairs[drawn, 1]])
        column = np.concatenate([both, rng.choice(self.known, self.n_negatives), self._draw_hard(both, rng)])
        rows, place = np.unique(column, return_inverse=True)
        anchor, positive = place[: len(both)], np.roll(place[: len(both)], self.n_pairs)
        expected = len(both) * self.share[column] + self.n_negatives / len(self.known)
        owner = np.concatenate([self.user[drawn]] * 2)
        masked = self._is_seen(owner, column) | self._is_same_text(rows, anchor, positive, column=column)
        return ItemStep(
            rows,
            torch.from_numpy(anchor),
            torch.from_numpy(positive),
            torch.from_numpy(place),
            torch.from_numpy(np.log(expected)).float(),
            torch.from_numpy(masked),
            torch.full((len(both),), 1 / len(both)),
        )

    def forward(self, vectors: Tensor, step: ItemStep) -> Tensor:  # noqa: D102
        device, vectors = vectors.device, functional.normalize(vectors - vectors.detach().mean(0), dim=-1)
        anchor = vectors[step.anchor.to(device)] * self.log_scale.exp()
        positive = (anchor * vectors[step.positive.to(device)]).sum(1, keepdim=True)
        logits = anchor @ vectors[step.column.to(device)].T - step.log_expected.to(device)
        everything = torch.cat([positive, logits.masked_fill(step.masked.to(device), float("-inf"))], dim=1)
        zero = torch.zeros(len(everything), dtype=torch.int64, device=device)
        return functional.cross_entropy(everything, zero)

    def _draw_hard(self, both: Rows, rng: np.random.Generator) -> Rows:
        found = self.hard[rng.permutation(both)].ravel()
        return rng.permutation(found[found >= 0])[: self.n_hard]

    def _is_seen(self, owner: Rows, column: Rows) -> NDArray[np.bool_]:
        """Return True where the user of a pair has the item of a column, (A, C)."""
        key = owner[:, None] * len(self.text_class) + column
        found: NDArray[np.bool_] = self.seen[np.searchsorted(self.seen, key).clip(max=len(self.seen) - 1)] == key
        return found

    def _is_same_text(self, rows: Rows, anchor: Rows, positive: Rows, *, column: Rows) -> NDArray[np.bool_]:
        of_column = self.text_class[column]
        of_anchor, of_positive = (self.text_class[rows[place]][:, None] for place in (anchor, positive))
        same: NDArray[np.bool_] = (of_anchor == of_column) | (of_positive == of_column)
        return same


def whiten(vectors: Tensor, rows: Tensor) -> Tensor:
    """Whiten vectors by the mean and covariance of some of them.

    Args:
        vectors: Vectors, (N, D).
        rows: Rows that the statistics are taken from, (K,).

    Returns:
        Vectors, (N, D).
    """
    mean = vectors[rows].mean(0)
    centered = (vectors - mean).double()
    values, directions = torch.linalg.eigh(centered[rows].T @ centered[rows] / len(rows))
    floor = (values.max() * 1e-3).clamp(min=1e-12)  # directions without variance would be amplified
    white: Tensor = (centered @ (directions / values.clamp(min=floor).sqrt())).to(vectors)
    return white


def fit_ridge(text: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Fit the linear map from text vectors to targets in closed form.

    Args:
        text: Text vectors, (K, D_text).
        targets: Targets, (K, D).

    Returns:
        Weight, (D, D_text), and bias, (D,).
    """
    mean, mean_target = text.mean(0), targets.mean(0)
    centered = (text - mean).double()
    covariance = centered.T @ centered / len(text)
    ridge = RIDGE * covariance.diagonal().mean() * torch.eye(len(covariance), dtype=torch.double)
    weight = torch.linalg.solve(covariance + ridge, centered.T @ (targets - mean_target).double() / len(text))
    weight = weight.T.to(text)
    return weight, mean_target - weight @ mean
