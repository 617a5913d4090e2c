"""Softmax cross-entropy over items that never holds the logits of a batch against a whole catalog."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

FULL_ITEMS, SAMPLED_ITEMS = (
    16_384,
    8_192,
)  # size up to which `choose_softmax_items` keeps a catalog whole, and its sample of larger ones
LOGITS_AT_ONCE = 1 << 19  # elements of one chunk of logits: 2 MiB in fp32, which fits a core's own cache
LOGITS_AT_ONCE_GPU = 1 << 26  # 256 MiB: fewer, larger kernels
MIN_ROWS = 16  # targets of a chunk, however large the catalog: products of matrices, not of vectors


class _FullSoftmax(torch.autograd.Function):
    """Loss and gradients in one pass over chunks of targets, whose logits are computed, used and dropped."""

    # The gradient with respect to the logits is exp / mass - 1[target]. Only exp has the size of a chunk: the mass is
    # divided out of the states that it is multiplied with, and the part of the target is a product of single rows.
    @staticmethod
    def forward(ctx: Any, states: Tensor, items: Tensor, target: Tensor) -> Tensor:
        """Compute the loss and, if needed, both gradients.

        Args:
            ctx: Context of autograd.
            states: States, (M, D).
            items: Item vectors, (N, D).
            target: Items of the targets, (M,).

        Returns:
            Sum of the losses, a scalar.
        """
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
        """Scale the gradients that the forward pass has computed.

        Args:
            ctx: Context of autograd.
            grad: Gradient with respect to the loss, a scalar.

        Returns:
            Gradients with respect to states and items.
        """
        grad_states, grad_items = ctx.saved_tensors
        return grad_states * grad, grad_items * grad, None


def full_softmax_loss(states: Tensor, items: Tensor, target: Tensor) -> Tensor:
    """Return the sum over targets of -log softmax(states . items)[target].

    Memory in addition to the gradients of the inputs is one chunk of logits.

    Args:
        states: State of each target, (M, D).
        items: Item vectors, (N, D).
        target: Items of the targets as rows of `items`, (M,).

    Returns:
        Sum of the losses, a scalar.
    """
    loss: Tensor = _FullSoftmax.apply(states, items, target)  # type: ignore[no-untyped-call]
    return loss


def sampled_softmax_loss(
    states: Tensor, wanted: Tensor, negatives: Tensor, target: Tensor, *, negative_rows: Tensor, n_items: int
) -> Tensor:
    """Return the sum over targets of the softmax cross-entropy against S shared uniform negatives.

    The logits of negatives gain log((n_items - 1) / S), which makes the sum an estimate of the full denominator (logQ
    correction).

    Args:
        states: State of each target, (M, D).
        wanted: Item vector of each target, (M, D).
        negatives: Item vectors of the negatives, (S, D).
        target: Catalog row of each target, (M,).
        negative_rows: Catalog row of each negative, (S,); negatives equal to a target are left out for it.
        n_items: Number of items of the catalog.

    Returns:
        Sum of the losses, a scalar.

    Source:
        Yi et al. 2019, doi:10.1145/3298689.3346996.
    """
    positive = (states * wanted).sum(1, keepdim=True)  # (M, 1)
    shift = torch.log(torch.tensor((n_items - 1) / len(negative_rows)))
    logits = states @ negatives.T + shift.to(states)  # (M, S)
    logits = logits.masked_fill(target[:, None] == negative_rows, float("-inf"))
    everything = torch.cat([positive, logits], dim=1)  # (M, 1 + S)
    return functional.cross_entropy(everything, torch.zeros_like(target), reduction="sum")


def choose_softmax_items(counts: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Choose the items over which a softmax is normalized, and how many items each represents.

    Small catalogs are used whole. Of larger ones, the items with the highest counts represent themselves, and a uniform
    sample represents the rest, so that the sum is unbiased and its largest terms are exact.

    Args:
        counts: Number of events of each item, (N,).
        rng: Random generator.

    Returns:
        Item rows, (C,), and the logarithm of the number of items that each represents, (C,).
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
