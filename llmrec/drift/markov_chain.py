"""Interest as a Markov chain: the exact update over items, and its continuous form over latent states.

Between two events a share of interest moves along the transitions of all users:

    p(u,i,t+1) = alpha * p(u,i,t) + beta * sum_j p(u,j,t) p(i|j,t)                                        (1)

Over a gap dt the same moves happen at random moments, lambda of them per day. Their number is Poisson, which gives

    P(dt) = sum_n e^(-lambda dt) (lambda dt)^n / n! M^n = exp(lambda dt (M - I))                          (2)

Up to its first move (2) is (1) with alpha = e^(-lambda dt); unlike (1) with that alpha it composes,
P(a + b) = P(a) P(b), so that it does not matter how often a belief is updated.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

TICKS_PER_DAY = 1024  # unit of gaps: 84 seconds
N_POWERS = 25  # of two, in ticks: gaps up to 90 years


def markov_update(interest: Tensor, transition: Tensor, alpha: float | Tensor, beta: float | Tensor) -> Tensor:
    """Compute one step of (1).

    Args:
        interest: p(u,j,t), (..., N).
        transition: (N, N), dense or sparse; row j holds p(i|j,t).
        alpha: Number, or tensor that broadcasts against interest.
        beta: Likewise.

    Returns:
        Interest after the step, (..., N); its sum is alpha + beta times that of `interest` where every row of
        `transition` sums to one.

    >>> interest = torch.tensor([0.6, 0.4, 0.0])  # in A, B and C
    >>> to_c = torch.tensor([[0.7, 0.0, 0.3], [0.0, 0.3, 0.7], [0.0, 0.0, 1.0]])  # p(C|A) = .3, p(C|B) = .7
    >>> [round(p, 3) for p in markov_update(interest, to_c, alpha=0.5, beta=0.5).tolist()]  # C: .5 * (.6*.3 + .4*.7)
    [0.51, 0.26, 0.23]

    Raises:
        ValueError: If `transition` is not square, or not over the items of `interest`.
    """
    n_items = interest.shape[-1]
    if transition.shape != (n_items, n_items):
        raise ValueError(
            f"transition of shape {tuple(transition.shape)} does not fit interest in {n_items} items; "
            f"expected ({n_items}, {n_items})"
        )
    rows = interest.reshape(-1, n_items)  # (B, N)
    dense = transition.layout == torch.strided
    moved = rows @ transition if dense else torch.sparse.mm(transition.t(), rows.T).T
    return alpha * interest + beta * moved.reshape(interest.shape)


class MarkovChain(nn.Module):
    """Markov chain of K latent interest states that follows (2), with M and lambda learned.

    Each of R beliefs has its own lambda. M's diagonal is zero: a move leads elsewhere, so that lambda is the moves per
    day. Gaps are counted in ticks of a thousandth of a day, and P of a gap is the product of P of its powers of two.
    """

    def __init__(self, n_states: int, moves_per_day: tuple[float, ...] = (1 / 60,)) -> None:
        """Start with a lambda for each belief; raises ValueError for fewer than 2 states."""
        super().__init__()
        if n_states < 2:
            raise ValueError(f"a chain of {n_states} state(s) has nowhere to move; give at least 2")
        self.logits = nn.Parameter(torch.zeros(n_states, n_states))
        self.log_rate = nn.Parameter(torch.tensor(moves_per_day).log())  # (R,)

    @property
    def transition(self) -> Tensor:
        """M, (K, K), rows summing to one."""
        here = torch.eye(len(self.logits), dtype=torch.bool, device=self.logits.device)
        return self.logits.masked_fill(here, -torch.inf).softmax(1)

    @property
    def half_life_days(self) -> Tensor:
        """Half-life of each belief in days: the time in which half of it has moved at least once, (R,)."""
        return math.log(2) / self.log_rate.exp()

    def transition_powers(self) -> Tensor:
        """Compute P of 1, 2, 4, ... ticks for `propagate`, once for fixed weights.

        Returns:
            Powers of P, (R, J, K, K).
        """
        transition = self.transition.double()
        rate = (self.log_rate.double().exp() / TICKS_PER_DAY)[:, None, None]  # (R, 1, 1)
        step = torch.matrix_exp(rate * (transition - torch.eye(len(transition), device=rate.device)))
        steps = [step]
        for _ in range(N_POWERS - 1):
            steps.append(steps[-1] @ steps[-1])
        return torch.stack(steps, dim=1).to(self.logits.dtype)

    def forward(self, belief: Tensor, days: Tensor) -> Tensor:
        """Move beliefs over gaps.

        Args:
            belief: Beliefs, (B, R, K).
            days: Gaps in days, at least 0, (B,).

        Returns:
            Beliefs after the gaps, (B, R, K).
        """
        return propagate(belief, to_ticks(days), self.transition_powers())


def to_ticks(days: Tensor) -> Tensor:
    """Round days to whole ticks, at most those of about 90 years.

    Args:
        days: Days, (B,).

    Returns:
        Ticks, (B,) int64.
    """
    return (days * TICKS_PER_DAY).round().long().clamp(0, 2**N_POWERS - 1)


def propagate(belief: Tensor, gap: Tensor, powers: Tensor) -> Tensor:
    """Move beliefs over gaps, in O(K^2) for each bit of a gap.

    Args:
        belief: Beliefs, (B, R, K).
        gap: Gaps in ticks, (B,).
        powers: Transition powers, (R, J, K, K).

    Returns:
        Beliefs after the gaps, (B, R, K).
    """
    moved: Tensor = _Propagation.apply(belief, gap, powers)  # type: ignore[no-untyped-call]
    return moved


class _Propagation(torch.autograd.Function):
    """Products with the powers of the bits that are set, each for the rows whose gap has that bit."""

    # Autograd would record a dozen operations for each bit, all of them over all rows.
    @staticmethod
    def forward(ctx: Any, belief: Tensor, gap: Tensor, powers: Tensor) -> Tensor:
        steps = powers.transpose(0, 1).contiguous()  # (J, R, K, K)
        result, before = (
            belief.transpose(0, 1).clone(memory_format=torch.contiguous_format),
            list[Tensor](),
        )  # (R, B, K)
        ctx.groups = list(_split_by_bit(gap, len(steps)))
        for bit, rows in ctx.groups:
            before.append(result.index_select(1, rows))  # (R, n, K)
            result.index_copy_(1, rows, torch.bmm(before[-1], steps[bit]))
        ctx.save_for_backward(steps, *(before if any(ctx.needs_input_grad) else []))
        return result.transpose(0, 1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, Tensor]:
        steps, *before = ctx.saved_tensors
        grad, grad_steps = grad.transpose(0, 1).clone(memory_format=torch.contiguous_format), torch.zeros_like(steps)
        turned = steps.transpose(2, 3)
        for (bit, rows), here in zip(reversed(ctx.groups), reversed(before), strict=True):
            after = grad.index_select(1, rows)  # (R, n, K)
            torch.bmm(here.transpose(1, 2), after, out=grad_steps[bit])
            grad.index_copy_(1, rows, torch.bmm(after, turned[bit]))
        return grad.transpose(0, 1), None, grad_steps.transpose(0, 1)


def _split_by_bit(gap: Tensor, n_bits: int) -> Iterator[tuple[int, Tensor]]:
    """Yield each bit that is set in some gap (B,), lowest first, and the rows (n,) in which it is."""
    n_bits = min(n_bits, int(gap.max()).bit_length()) if len(gap) else 0
    position, row = torch.nonzero((gap >> torch.arange(n_bits, device=gap.device)[:, None]) & 1, as_tuple=True)
    sizes = torch.bincount(position, minlength=n_bits).tolist()
    for bit, rows in enumerate(torch.split(row, sizes)):
        if len(rows):
            yield bit, rows
