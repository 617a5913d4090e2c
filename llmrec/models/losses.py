"""Softmax cross-entropy over items, without ever holding the logits of a batch against a catalog."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

FULL_ITEMS, SAMPLED_ITEMS = (
    16_384,
    8_192,
)  # catalogs that `choose_softmax_items` leaves whole, and its sample of larger ones
LOGITS_AT_ONCE = 1 << 19  # elements of one chunk of logits: 2 MiB in fp32, which a core's own cache holds
LOGITS_AT_ONCE_GPU = 1 << 26  # 256 MiB: fewer, larger kernels
MIN_ROWS = 16  # targets of a chunk, however large the catalog: products of matrices, not of vectors


class _FullSoftmax(torch.autograd.Function):
    """Loss and gradients in one pass over chunks of targets: each chunk's logits are made, used and dropped.

    The gradient by the logits is exp / mass - 1[target]. Only exp is of a chunk's size: the mass goes into the states
    that it is multiplied with, and the target's part is a product of single rows.
    """

    @staticmethod
    def forward(ctx: Any, states: Tensor, items: Tensor, target: Tensor) -> Tensor:
        needs_grad = any(ctx.needs_input_grad)
        grad_states, grad_items = torch.empty_like(states), torch.zeros_like(items)
        wanted = items[target]  # (M, D)
        total = -(states * wanted).sum(dtype=torch.float64)
        at_once = LOGITS_AT_ONCE if states.device.type == "cpu" else LOGITS_AT_ONCE_GPU
        rows = max(at_once // len(items), MIN_ROWS)
        chunk = states.new_empty(min(rows, len(states)), len(items))
        for start in range(0, len(states), rows):
            state = states[start : start + rows]
            logits = torch.mm(state, items.T, out=chunk[: len(state)])  # (rows, N)
            top = logits.amax(1, keepdim=True)
            exp = logits.sub_(top).exp_()
            mass = exp.sum(1, keepdim=True)
            total += (mass.log() + top).sum(dtype=torch.float64)
            if needs_grad:
                torch.mm(exp, items, out=grad_states[start : start + rows]).div_(mass)
                grad_items.addmm_(exp.T, state / mass)
        if needs_grad:
            grad_states -= wanted
            grad_items.index_add_(0, target, states, alpha=-1)
        ctx.save_for_backward(grad_states, grad_items)
        return total.to(states.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        grad_states, grad_items = ctx.saved_tensors
        return grad_states * grad, grad_items * grad, None


def full_softmax_loss(states: Tensor, items: Tensor, target: Tensor) -> Tensor:
    """Sum over targets of -log softmax(states . items)[target].

    states: (M, D); items: (N, D); target: (M,) rows of items.
    Memory beside the inputs' gradients is one chunk of logits.
    """
    loss: Tensor = _FullSoftmax.apply(states, items, target)  # type: ignore[no-untyped-call]
    return loss


def sampled_softmax_loss(
    states: Tensor, wanted: Tensor, negatives: Tensor, target: Tensor, negative_rows: Tensor, n_items: int
) -> Tensor:
    """Sum over targets of the softmax cross-entropy against S shared uniform negatives.

    states, wanted: (M, D), state and item vector of each target; negatives: (S, D); target: (M,) and
    negative_rows: (S,) catalog rows, by which accidental hits are left out. The logits of negatives gain
    log((n_items - 1) / S), which makes the sum an estimate of the full denominator (logQ correction,
    Yi et al. 2019, doi:10.1145/3298689.3346996).
    """
    positive = (states * wanted).sum(1, keepdim=True)  # (M, 1)
    shift = torch.log(torch.tensor((n_items - 1) / len(negative_rows)))
    logits = states @ negatives.T + shift.to(states)  # (M, S)
    logits = logits.masked_fill(target[:, None] == negative_rows, float("-inf"))
    everything = torch.cat([positive, logits], dim=1)  # (M, 1 + S)
    return functional.cross_entropy(everything, torch.zeros_like(target), reduction="sum")


def choose_softmax_items(counts: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """(C,) item rows over which a softmax is normalised, and (C,) log of how many items each stands for.

    All N items where that fits; else those with the highest counts (N,), for themselves, and a uniform sample of the
    rest, so that the sum is unbiased and its largest terms are exact.
    """
    n_items = len(counts)
    if n_items <= FULL_ITEMS:
        return torch.arange(n_items), torch.zeros(n_items)
    ranked, n_certain = torch.argsort(counts, descending=True, stable=True), SAMPLED_ITEMS // 2
    n_drawn = SAMPLED_ITEMS - n_certain
    drawn = rng.choice(n_items - n_certain, n_drawn, replace=False)
    weight = torch.zeros(SAMPLED_ITEMS)
    weight[n_certain:] = float(np.log((n_items - n_certain) / n_drawn))
    return torch.cat([ranked[:n_certain], ranked[n_certain:][torch.from_numpy(drawn)]]), weight
