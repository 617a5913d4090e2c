"""Fits the drift head of a trained model on the validation window.

The head never sees the data its model was trained on, of which the model is too sure.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from llmrec.data.histories import Queries
from llmrec.data.interactions import Rows
from llmrec.evaluation.ranking import Scorer, mean_ndcg
from llmrec.evaluation.replay import DAILY, DriftScorer, Stream, counts_of, moves_of, recent_of
from llmrec.models.drift.head import DriftHead, Recent

SCORES_AT_ONCE = 16 << 20  # elements of one chunk of scores: 64 MiB in fp32
KEPT_SCORES = 256 << 20  # elements of all scores up to which they are kept: 1 GiB
QUERIES_AT_ONCE = 256
LBFGS_STEPS = 12
GATE_PENALTY = 0.01  # L2 on the gate's weights but its constant, per query
SHIFTS = (0.0, 1.0, 2.0)


@dataclass(frozen=True)
class _Seen:
    """Queries of one refresh moment, with everything of the world that their likelihood needs."""

    rows: Rows
    recent: Recent
    counts: Tensor  # (H, N)
    count: Tensor  # (B, T) of the target, by row of the history
    row_sum: Tensor  # (B, T)
    text: Tensor  # (B, T) chance of the target by text


def fit_drift(base: Scorer, stream: Stream, valid: Queries, mask_seen: bool) -> tuple[DriftHead, Stream]:
    """The head whose mixture makes the validation targets likeliest, its shift chosen by their NDCG@10; and the stream
    with the half-life of transitions that goes with it.
    """
    if not len(valid):
        return DriftHead(stream.config), stream
    half_lives = stream.config.transition_half_lives_days if "transitions" in stream.config.terms else ()
    tried = [replace(stream, transition_half_life_days=days) for days in half_lives] or [stream]
    scored = _scored(base, valid, stream.n_items)
    fits = [_likeliest(scored, candidate, valid) for candidate in tried]
    best = min(range(len(fits)), key=lambda row: fits[row][1])
    head, stream = fits[best][0], tried[best]
    if "transitions" in head.terms:
        head.shift.fill_(max(SHIFTS, key=lambda shift: _ndcg(head, shift, base, stream, valid, mask_seen)))
    return head, stream


def _scored(base: Scorer, queries: Queries, n_items: int) -> Callable[[Rows], Tensor]:
    """Scores (B, N) of some rows of the queries, made once where they fit into memory and anew each time where not."""

    def anew(rows: Rows) -> Tensor:
        return base.scores(queries.take(rows))

    if len(queries) * n_items > KEPT_SCORES:
        return anew
    chunks = range(0, len(queries), QUERIES_AT_ONCE)
    kept = torch.cat([anew(np.arange(start, min(start + QUERIES_AT_ONCE, len(queries)))) for start in chunks])
    return lambda rows: kept[rows]


def _likeliest(scored: Callable[[Rows], Tensor], stream: Stream, valid: Queries) -> tuple[DriftHead, float]:
    """The fitted head, and minus log chance of a validation target under it: the best that the search came across."""
    head, seen = DriftHead(stream.config), list(_watch(stream, valid))
    best, lowest = copy.deepcopy(head.state_dict()), torch.inf
    optimizer = torch.optim.LBFGS(head.parameters(), max_iter=LBFGS_STEPS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        nonlocal best, lowest
        optimizer.zero_grad()
        total = torch.zeros(())
        for part in seen:
            surprise = _surprise(head, scored(part.rows), valid.target[part.rows], part) / len(valid)
            surprise.backward()  # type: ignore[no-untyped-call]
            total += surprise.detach()
        penalty = GATE_PENALTY * head.gate[1:].square().sum()
        penalty.backward()  # type: ignore[no-untyped-call]
        total = total + penalty.detach()
        if float(total) < lowest:
            best, lowest = copy.deepcopy(head.state_dict()), float(total)
        return total

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    head.load_state_dict(best)
    return head.requires_grad_(False), lowest


def _surprise(head: DriftHead, scores: Tensor, target: Rows, part: _Seen) -> Tensor:
    """Minus log chance of the targets (B,), summed. scores: (B, N)."""
    chances = head.base(scores, part.counts)  # (B, N)
    wanted = chances.gather(1, torch.from_numpy(target)[:, None])[:, 0]
    if "transitions" in head.terms:
        moved = head.moved_to(part.recent, part.count, part.row_sum, part.text)
        wanted = head.mix(wanted, moved, head.odds(part.recent))
    return -wanted.sum()


def _ndcg(head: DriftHead, shift: float, base: Scorer, stream: Stream, valid: Queries, mask_seen: bool) -> float:
    shifted = copy.deepcopy(head)
    shifted.shift.fill_(shift)
    return mean_ndcg(DriftScorer(shifted, base, stream), valid, mask_seen=mask_seen)


def _watch(stream: Stream, queries: Queries) -> Iterator[_Seen]:
    at_once = max(SCORES_AT_ONCE // stream.n_items, 1)
    for rows, world in stream.replay(stream.world(), queries, DAILY):
        counts, moves = counts_of(world), moves_of(world, stream)
        for start in range(0, len(rows), at_once):
            part = rows[start : start + at_once]
            asked = queries.take(part)
            recent = recent_of(asked)
            item = recent.item.numpy()
            pairs = item.ravel(), np.repeat(asked.target, item.shape[1])
            shape = torch.Size(item.shape)
            count = sum((_at(table, pairs, shape) for table in moves.tables), torch.zeros(shape)) * moves.fading
            row_sum = torch.from_numpy(moves.row_sums[item]).float() * moves.fading
            text = _at(moves.text, pairs, shape)
            yield _Seen(part, recent, counts, count, row_sum, text)


def _at(table: sparse.csr_array, pairs: tuple[Rows, Rows], shape: torch.Size) -> Tensor:
    return torch.from_numpy(np.asarray(table[pairs])).float().view(shape)
