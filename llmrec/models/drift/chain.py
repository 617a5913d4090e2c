"""Interest as a Markov chain: the founding update over items, exactly, and its continuous form over latent states.

Between two events a share of interest moves on along the transitions of the crowd:

    p(u,i,t+1) = alpha * p(u,i,t) + beta * sum_j p(u,j,t) p(i|j,t)                                        (1)

Over a gap dt the same moves happen at random moments, lambda of them per day. Their number is Poisson, which gives

    P(dt) = exp(lambda dt (M - I)) = sum_n e^(-lambda dt) (lambda dt)^n / n! M^n                          (2)

(uniformization, Jensen 1953, doi:10.1080/03461238.1953.10419459). Up to its first move (2) is (1) with
alpha = e^(-lambda dt); other than (1) with that alpha it composes, P(a + b) = P(a) P(b), so that it does not matter
how often a belief is brought up to date.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

MOST_MOVES = 256.0  # expected moves in a gap beyond which the chain is taken to have settled
TAIL_DEVIATIONS, TAIL_TERMS = 8, 12  # terms of (2) beyond the mean: what is left out is below fp32's resolution


def markov_update(interest: Tensor, transition: Tensor, alpha: float | Tensor, beta: float | Tensor) -> Tensor:
    """One step of (1).

    interest: (..., N), p(u,j,t). transition: (N, N), dense or sparse, row j holding p(i|j,t). alpha, beta: numbers, or
    tensors that broadcast against interest. Returns (..., N); its sum is alpha + beta times that of `interest` where
    every row of `transition` sums to one.

    >>> interest = torch.tensor([0.6, 0.4, 0.0])  # in A, B and C
    >>> to_c = torch.tensor([[0.7, 0.0, 0.3], [0.0, 0.3, 0.7], [0.0, 0.0, 1.0]])  # p(C|A) = .3, p(C|B) = .7
    >>> [round(p, 3) for p in markov_update(interest, to_c, alpha=0.5, beta=0.5).tolist()]  # C: .5 * (.6*.3 + .4*.7)
    [0.51, 0.26, 0.23]

    Raises:
        ValueError: `transition` is not square, or not over the items of `interest`.
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
    """K latent states of interest that follow (2), with M and lambda learned.

    stay: share of each row of M that starts on the diagonal; the rest is spread evenly. moves_per_day: lambda to start.
    """

    def __init__(self, n_states: int, stay: float = 0.5, moves_per_day: float = 1 / 60) -> None:
        super().__init__()
        start = torch.full((n_states, n_states), (1 - stay) / n_states) + stay * torch.eye(n_states)
        self.logits = nn.Parameter(start.log())
        self.log_rate = nn.Parameter(torch.tensor(math.log(moves_per_day)))

    @property
    def transition(self) -> Tensor:
        """(K, K) M, rows summing to one."""
        return self.logits.softmax(1)

    @property
    def half_life_days(self) -> Tensor:
        """() days after which half of a belief has moved at least once."""
        return math.log(2) / self.log_rate.exp()

    def forward(self, belief: Tensor, days: Tensor) -> Tensor:
        """Beliefs (B, K) carried over gaps of `days` (B,) >= 0: belief P(days), in O(K^2) a term of (2)."""
        moves = (self.log_rate.exp() * days).clamp(max=MOST_MOVES)[:, None]  # (B, 1)
        most = float(moves.detach().max()) if len(days) else 0.0
        transition, carried = self.transition, belief
        log_weight = -moves  # of n = 0
        total = log_weight.exp() * belief
        for n in range(1, int(most + TAIL_DEVIATIONS * math.sqrt(most)) + TAIL_TERMS):
            carried = carried @ transition
            log_weight = log_weight + moves.clamp(min=1e-30).log() - math.log(n)
            total = total + log_weight.exp() * carried
        return functional.normalize(total, p=1, dim=1) * belief.sum(1, keepdim=True)  # what rounding and the tail took
