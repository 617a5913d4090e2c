"""Fit the drift head of a trained model on the validation window.

The head never sees the data its model was trained on, where the model is overconfident. Its weights maximize the
likelihood of the validation targets; the shares of the parts are then shifted by NDCG.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from llmrec.data.histories import Queries
from llmrec.drift.head import DriftHead
from llmrec.drift.mixture import build_recent_events, read_context, read_views
from llmrec.drift.stream import REFRESH_DAILY, ReplayStream, StreamCounts
from llmrec.drift.terms import BY_NAME, SWITCHES, transitions
from llmrec.drift.terms.term_inputs import TargetPass
from llmrec.drift.terms.transitions import count_known_pairs
from llmrec.evaluation.metrics import ndcg_at
from llmrec.evaluation.ranking import Scorer, mask_items, sample_queries
from llmrec.models.losses import choose_softmax_items

if TYPE_CHECKING:
    from accelerate import Accelerator

MAX_DAYS, MAX_QUERIES = 128, 8000  # max of the validation window that the fit uses
MAX_CACHED_SCORES = 512 << 20  # scores of these queries for all items: 2 GiB in fp32
QUERIES_AT_ONCE = 256
SHIFT_CUTOFF = 10  # of the NDCG that the shift is chosen by
LBFGS_STEPS = 15
GATE_PENALTY = 0.01  # L2 on the gate's weights except its constants, per query


@dataclass(frozen=True)
class ValidationPass(TargetPass):
    """Queries of one refresh moment (B), with everything that the likelihood of their targets needs."""

    scores: Tensor
    """Scores of the C columns that the softmax is normalized over, (B, C)."""
    own_score: Tensor
    """Score of the target, (B,)."""
    known: Tensor | None
    """Pairs known of each event's item, (B, T); None where no term reads pairs."""


@dataclass(frozen=True)
class DriftValidation:
    """Queries of the validation window with the model's scores, computed once for all heads."""

    queries: Queries
    """Q queries in time order."""
    scores: Tensor
    """Scores of all items, (Q, N)."""

    @classmethod
    def from_stream(
        cls, base: Scorer, stream: ReplayStream, valid: Queries, *, accelerator: Accelerator | None = None
    ) -> DriftValidation:
        """Score a sample of the queries of at most MAX_DAYS days, evenly spread over the window.

        Args:
            base: The model below the head.
            stream: The log that heads are fitted on.
            valid: Queries of the validation window.
            accelerator: Processes that share the scoring; all of them get all scores.

        Returns:
            Queries with the scores of all items.
        """
        moments, day = np.unique(stream.refresh_times(valid.time, REFRESH_DAILY), return_inverse=True)
        days = np.linspace(0, len(moments) - 1, min(MAX_DAYS, len(moments))).astype(int)
        most = min(MAX_QUERIES, max(MAX_CACHED_SCORES // stream.n_items, 1))
        queries = sample_queries(valid.take(np.isin(day, days)), most)
        scores = torch.zeros(len(queries), stream.n_items)
        parts = [slice(start, start + QUERIES_AT_ONCE) for start in range(0, len(queries), QUERIES_AT_ONCE)]
        for part in parts if accelerator is None else parts[accelerator.process_index :: accelerator.num_processes]:
            scores[part] = base.score(queries.take(part))
        if accelerator is not None and accelerator.num_processes > 1:
            for part in parts:
                scores[part] = accelerator.reduce(scores[part].to(accelerator.device), "sum").cpu()
        return cls(queries, scores)

    def replay(self, stream: ReplayStream) -> Iterator[tuple[Queries, Tensor, StreamCounts]]:
        """Iterate over the queries of each day with their scores, and the counts as of that day.

        Args:
            stream: Log and settings to count with.

        Yields:
            Queries (B), their scores (B, N), and the counts.
        """
        for rows, counts in stream.replay(stream.new_counts(), self.queries, REFRESH_DAILY):
            for start in range(0, len(rows), QUERIES_AT_ONCE):
                part = rows[start : start + QUERIES_AT_ONCE]
                yield self.queries.take(part), self.scores[torch.from_numpy(part)], counts


@dataclass(frozen=True)
class FittedHead:
    """Fitted head, and the stream with the half-life of pairs that it was fitted with."""

    head: DriftHead
    """Fitted weights."""
    stream: ReplayStream
    """Log, settings and tables of the fit."""


def fit_drift(validation: DriftValidation, stream: ReplayStream, *, mask_seen: bool) -> FittedHead:
    """Fit the head of maximum likelihood on the validation targets, at the best half-life of pairs.

    Args:
        validation: Scored queries.
        stream: The log and the settings of the head.
        mask_seen: Leave out seen items where shifts are compared.

    Returns:
        The head, untrained if there are no queries, and its stream.
    """
    chain = None if stream.chain is None else stream.chain.chain
    if not len(validation.queries):
        return FittedHead(DriftHead(stream.config, chain), stream)
    half_lives = stream.config.transition_half_lives_days if transitions.NAME in stream.config.terms else ()
    tried = [replace(stream, transition_half_life_days=days) for days in half_lives] or [stream]
    fits = [
        _maximize_likelihood(DriftHead(stream.config, chain), list(collect_validation_passes(validation, each)))
        for each in tried
    ]
    best = min(range(len(fits)), key=lambda row: fits[row][1])
    head, stream = fits[best][0], tried[best]
    head.shift.copy_(_find_best_shift(head, validation, stream, mask_seen=mask_seen))
    return FittedHead(head, stream)


def collect_validation_passes(validation: DriftValidation, stream: ReplayStream) -> Iterator[ValidationPass]:
    """Iterate over the queries with everything that the likelihood of their targets needs.

    Args:
        validation: Scored queries.
        stream: Log, settings and tables.

    Yields:
        Queries of one refresh moment.
    """
    rng, counts = np.random.default_rng(0), np.bincount(stream.log.item, minlength=stream.n_items)
    columns, log_weight = choose_softmax_items(torch.from_numpy(counts), rng)
    terms = frozenset(stream.config.terms)
    for queries, scores, counted in validation.replay(stream):
        recent, target = build_recent_events(queries, stream.trained_until), torch.from_numpy(queries.target)
        views = read_views(terms, stream, counted, recent)
        gathered = {name: SWITCHES[name].gather(view, recent, columns, target) for name, view in views.items()}
        own_score, known = scores.gather(1, target[:, None])[:, 0], count_known_pairs(views, recent)
        yield ValidationPass(
            recent, log_weight, gathered, scores[:, columns], own_score, None if known is None else known.float()
        )


def head_negative_log_likelihood(head: DriftHead, seen: ValidationPass) -> Tensor:
    """Compute minus the log-probability of the targets, summed over the queries.

    Args:
        head: Drift head.
        seen: Queries of one refresh moment.

    Returns:
        Scalar, ().
    """
    columns = {name: view[0] for name, view in seen.views.items() if BY_NAME[name].role == "logit"}
    targets = {name: view[1] for name, view in seen.views.items() if BY_NAME[name].role == "logit"}
    total = (head.base_logits(seen.scores, columns) + seen.log_weight).logsumexp(1)  # (B,)
    base = head.base_logits(seen.own_score, targets) - total
    others = [
        part.implementation.score_targets(head, seen) if part.name in head.terms else 0.0 for part in head.parts[1:]
    ]
    return -head.mix_log_probabilities(head.log_mixture_shares(seen.recent, seen.known), base, *others).sum()


def _maximize_likelihood(head: DriftHead, seen: Sequence[ValidationPass]) -> tuple[DriftHead, float]:
    """Return the head with the best weights found, and minus the log-probability of a target."""
    n_queries = sum(len(part.own_score) for part in seen)
    best, lowest = copy.deepcopy(head.state_dict()), torch.inf
    weights = [weight for name, weight in head.named_parameters() if not name.startswith("chain.")]
    optimizer = torch.optim.LBFGS(weights, max_iter=LBFGS_STEPS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        nonlocal best, lowest
        optimizer.zero_grad()
        total = GATE_PENALTY * head.gate[:, 1:].square().sum()
        total.backward()  # type: ignore[no-untyped-call]
        total = total.detach()
        for part in seen:
            share = head_negative_log_likelihood(head, part) / n_queries
            share.backward()  # type: ignore[no-untyped-call]
            total = total + share.detach()
        if float(total) < lowest:
            best, lowest = copy.deepcopy(head.state_dict()), float(total)
        return total

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    head.load_state_dict(best)
    return head.requires_grad_(requires_grad=False), lowest


@torch.no_grad()
def _find_best_shift(head: DriftHead, validation: DriftValidation, stream: ReplayStream, *, mask_seen: bool) -> Tensor:
    """Return the shift (P - 1,) with the highest NDCG@10, the smallest of equals, in one replay."""
    choices = [part.implementation.shifts if part.name in head.terms else (0.0,) for part in head.parts[1:]]
    grid = torch.tensor(list(product(*choices)))  # (G, P - 1)
    grid = grid[grid.abs().sum(1).argsort(stable=True)]
    gains = torch.zeros(len(grid), dtype=torch.float64)
    for queries, scores, counts in validation.replay(stream):
        recent = build_recent_events(queries, stream.trained_until)
        target = torch.from_numpy(queries.target)[:, None]
        context = read_context(head, stream, scores, recent, counts=counts)
        terms = context.mixture_terms()
        parts = [torch.as_tensor(part).expand_as(terms.base) for part in (terms.base.exp(), *terms.others)]
        chances = torch.stack(parts, dim=1)  # (B, P, N)
        chances[
            mask_items(queries, stream.n_items, mask_seen=mask_seen, available=None)[:, None].expand_as(chances)
        ] = 0.0
        reachable = _reachable_targets(chances, target, SHIFT_CUTOFF)
        chances, target = chances[reachable], target[reachable]
        for position, shift in enumerate(grid):
            shares = context.log_mixture_shares(shift).exp()[reachable]
            mixed = (shares[:, None] @ chances)[:, 0]  # (B', N)
            higher = (mixed > mixed.gather(1, target)).sum(1)
            gains[position] += float(ndcg_at(1 + higher.double().numpy(), SHIFT_CUTOFF).sum())
    return grid[int(gains.argmax())]


def _reachable_targets(chances: Tensor, target: Tensor, k: int) -> Tensor:
    """Return the rows (B',) of chances (B, P, N) where some mixture can rank the target among its first k.

    Elsewhere at least k items are more probable by the base, which always has a share, and no less probable by the
    rest.
    """
    own = chances.gather(2, target[:, None].expand(-1, chances.shape[1], 1))  # (B, parts, 1)
    above = (chances[:, 0] > own[:, 0]) & (chances[:, 1:] >= own[:, 1:]).all(1)  # (B, N)
    return torch.nonzero(above.sum(1) < k)[:, 0]
