"""Fits the drift head of a trained model on the validation window.

The head never sees the data its model was trained on, of which the model is too sure. Its weights make the validation
targets likeliest; how much is left to transitions and chain is then set by NDCG.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import NamedTuple

import numpy as np
import torch
from accelerate import Accelerator
from scipy import sparse
from torch import Tensor

from llmrec.config.drift import TermName
from llmrec.data.histories import Queries
from llmrec.drift.head import DriftHead, RecentEvents
from llmrec.drift.mixture import build_recent_events, compute_mixture_terms, environment_counts, transition_rows
from llmrec.drift.stream import REFRESH_DAILY, ReplayStream, StreamCounts
from llmrec.evaluation.metrics import ndcg_at
from llmrec.evaluation.ranking import Scorer, mask_items, sample_queries
from llmrec.models.losses import choose_softmax_items
from llmrec.utils.arrays import Rows

MAX_DAYS, MAX_QUERIES = 128, 8000  # of the validation window that are looked at
MAX_CACHED_SCORES = 512 << 20  # of these queries, for all items: 2 GiB in fp32
QUERIES_AT_ONCE = 256
SHIFT_CUTOFF = 10  # of the NDCG that the shift is chosen by
LBFGS_STEPS = 15
GATE_PENALTY = 0.01  # L2 on the gate's weights but its constants, per query
OFF = -30.0  # log-odds of a part that is left out: a number that JSON has
SHIFTS: dict[TermName, tuple[float, ...]] = {
    "transitions": (-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0, 3.0),
    "chain": (OFF, -1.0, 0.0, 1.0),
}


class ValidationPass(NamedTuple):
    """Queries of one refresh moment, with everything of the world that their targets' likelihood needs."""

    recent: RecentEvents
    scores: Tensor  # (B, C) of the columns that the softmax is normalised over
    log_weight: Tensor  # (C,)
    own_score: Tensor  # (B,) of the target
    counts: Tensor  # (H, C)
    own_counts: Tensor  # (H, B)
    pairs: Tensor  # (B, T) C of the target, by row of the history
    row_sum: Tensor  # (B, T)
    text: Tensor  # (B, T) chance of the target by text
    interest: Tensor  # (B, K) in the chain's states
    emission: Tensor  # (K, C)
    own_emission: Tensor  # (K, B)


@dataclass(frozen=True)
class DriftValidation:
    """Queries of the validation window, in order of time, and the model's scores (Q, N), made once for all heads."""

    queries: Queries
    scores: Tensor

    @classmethod
    def from_stream(
        cls, base: Scorer, stream: ReplayStream, valid: Queries, accelerator: Accelerator | None = None
    ) -> DriftValidation:
        """The queries of at most MOST_DAYS days, evenly spread over the window, and of these a sample.

        accelerator: of processes that share the scoring, and then all have all scores.
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
        """Queries of one day with their scores, and the world as of it."""
        for rows, counts in stream.replay(stream.new_counts(), self.queries, REFRESH_DAILY):
            for start in range(0, len(rows), QUERIES_AT_ONCE):
                part = rows[start : start + QUERIES_AT_ONCE]
                yield self.queries.take(part), self.scores[torch.from_numpy(part)], counts


@dataclass(frozen=True)
class FittedHead:
    """A head, and the stream with the half-life of transitions that goes with it."""

    head: DriftHead
    stream: ReplayStream


def fit_drift(judged: DriftValidation, stream: ReplayStream, mask_seen: bool) -> FittedHead:
    """The head whose mixture makes the validation targets likeliest, at the best half-life of transitions."""
    chain = None if stream.chain is None else stream.chain.chain
    if not len(judged.queries):
        return FittedHead(DriftHead(stream.config, chain), stream)
    half_lives = stream.config.transition_half_lives_days if "transitions" in stream.config.terms else ()
    tried = [replace(stream, transition_half_life_days=days) for days in half_lives] or [stream]
    fits = [
        _maximize_likelihood(DriftHead(stream.config, chain), list(collect_validation_passes(judged, each)))
        for each in tried
    ]
    best = min(range(len(fits)), key=lambda row: fits[row][1])
    head, stream = fits[best][0], tried[best]
    head.shift.copy_(_find_best_shift(head, judged, stream, mask_seen))
    return FittedHead(head, stream)


def collect_validation_passes(judged: DriftValidation, stream: ReplayStream) -> Iterator[ValidationPass]:
    """The queries with all that their likelihood needs of the world as of their day."""
    rng, everything = np.random.default_rng(0), np.bincount(stream.log.item, minlength=stream.n_items)
    columns, log_weight = choose_softmax_items(torch.from_numpy(everything), rng)
    for asked, scores, world in judged.replay(stream):
        counts, transitions, recent = (
            environment_counts(world),
            transition_rows(world, stream),
            build_recent_events(asked, stream.trained_until),
        )
        target = torch.from_numpy(asked.target)
        pairs = recent.item.numpy().ravel(), np.repeat(asked.target, recent.item.shape[1])
        count = sum(
            (_gather_pairs(table, pairs, recent) for table in transitions.tables), torch.zeros(recent.item.shape)
        )
        interest, emission = torch.zeros(len(target), 0), torch.zeros(0, stream.n_items)
        if stream.chain is not None:
            interest, emission = stream.chain.interest_from_history(recent), stream.chain.emission
        yield ValidationPass(
            recent,
            scores[:, columns],
            log_weight,
            scores.gather(1, target[:, None])[:, 0],
            counts[:, columns],
            counts[:, target],
            count * transitions.fading,
            transitions.row_sum(recent).float(),
            _gather_pairs(transitions.text, pairs, recent),
            interest,
            emission[:, columns],
            emission[:, target],
        )


def head_negative_log_likelihood(head: DriftHead, seen: ValidationPass) -> Tensor:
    """Minus log chance of the targets (B,), summed."""
    total = (head.base_logits(seen.scores, seen.counts) + seen.log_weight).logsumexp(1)  # (B,)
    base = head.base_logits(seen.own_score, seen.own_counts) - total
    moved = (
        head.transition_probability(seen.recent, seen.pairs, seen.row_sum, seen.text)
        if "transitions" in head.terms
        else 0.0
    )
    chained: Tensor | float = 0.0
    if "chain" in head.terms:
        totals = (head.state_logits(seen.emission, seen.counts) + seen.log_weight).logsumexp(1)  # (K,)
        chained = (
            seen.interest.T * (head.state_logits(seen.own_emission, seen.own_counts) - totals[:, None]).exp()
        ).sum(0)
    return -head.mix_log_probabilities(head.log_mixture_shares(seen.recent, seen.row_sum), base, moved, chained).sum()


def _maximize_likelihood(head: DriftHead, seen: Sequence[ValidationPass]) -> tuple[DriftHead, float]:
    """The fitted head, and minus log chance of a target under it: the best that the search came across."""
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
    return head.requires_grad_(False), lowest


@torch.no_grad()
def _find_best_shift(head: DriftHead, judged: DriftValidation, stream: ReplayStream, mask_seen: bool) -> Tensor:
    """(2,) the shift of transitions and chain with the highest NDCG@10, the smallest of equals, in one replay."""
    choices = [SHIFTS[term] if term in head.terms else (0.0,) for term in ("transitions", "chain")]
    grid = torch.tensor(list(product(*choices)))  # (G, 2)
    grid = grid[grid.abs().sum(1).argsort(stable=True)]
    gains = torch.zeros(len(grid), dtype=torch.float64)
    for asked, scores, counts in judged.replay(stream):
        recent, target = build_recent_events(asked, stream.trained_until), torch.from_numpy(asked.target)[:, None]
        row_sum = transition_rows(counts, stream).row_sum(recent)
        _, base, moved, chained = compute_mixture_terms(head, stream, scores, recent, counts)
        chances = torch.stack([torch.as_tensor(part).expand_as(base) for part in (base.exp(), moved, chained)], dim=1)
        chances[mask_items(asked, stream.n_items, mask_seen, None)[:, None].expand_as(chances)] = 0.0  # (B, 3, N)
        hopeful = _reachable_targets(chances, target, SHIFT_CUTOFF)
        chances, target = chances[hopeful], target[hopeful]
        for position, shift in enumerate(grid):
            shares = head.log_mixture_shares(recent, row_sum, shift).exp()[hopeful]
            mixed = (shares[:, None] @ chances)[:, 0]  # (B', N)
            higher = (mixed > mixed.gather(1, target)).sum(1)
            gains[position] += float(ndcg_at(1 + higher.double().numpy(), SHIFT_CUTOFF).sum())
    return grid[int(gains.argmax())]


def _reachable_targets(chances: Tensor, target: Tensor, k: int) -> Tensor:
    """(B',) rows of chances (B, parts, N) where some mixture can have the target (B, 1) among its first k.

    Elsewhere at least k items are likelier by the first part, which always has a share, and no less likely by the rest.
    """
    own = chances.gather(2, target[:, None].expand(-1, chances.shape[1], 1))  # (B, parts, 1)
    above = (chances[:, 0] > own[:, 0]) & (chances[:, 1:] >= own[:, 1:]).all(1)  # (B, N)
    return torch.nonzero(above.sum(1) < k)[:, 0]


def _gather_pairs(table: sparse.csr_array, pairs: tuple[Rows, Rows], recent: RecentEvents) -> Tensor:
    return torch.from_numpy(np.asarray(table[pairs])).float().view(recent.item.shape)
