"""The founding update, its properties, and its continuous form."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from llmrec.drift.markov_chain import TICKS_PER_DAY, MarkovChain, markov_update, propagate

Seeds = st.integers(0, 10_000)
Layouts = st.sampled_from([torch.strided, torch.sparse_coo, torch.sparse_csr])


def drawn(seed: int, n_items: int = 7) -> tuple[Tensor, Tensor]:
    """A batch of distributions (3, N) and a transition matrix (N, N) with empty places."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.rand(n_items, n_items, generator=generator, dtype=torch.float64)
    weight *= (weight > 0.5) | torch.eye(n_items, dtype=torch.bool)
    interest = torch.rand(3, n_items, generator=generator, dtype=torch.float64)
    return interest / interest.sum(1, keepdim=True), weight / weight.sum(1, keepdim=True)


def laid_out(matrix: Tensor, layout: torch.layout) -> Tensor:
    return matrix if layout == torch.strided else matrix.to_sparse(layout=layout)


@settings(deadline=None)
@given(Seeds, st.floats(0, 1), st.floats(0, 1), Layouts)
def test_it_is_the_sum_as_it_is_written(seed: int, alpha: float, beta: float, layout: torch.layout) -> None:
    interest, transition = drawn(seed)
    after = markov_update(interest, laid_out(transition, layout), alpha, beta)
    for u in range(3):
        for i in range(7):
            moved = sum(float(interest[u, j] * transition[j, i]) for j in range(7))
            assert float(after[u, i]) == pytest.approx(alpha * float(interest[u, i]) + beta * moved, abs=1e-12)


def test_the_worked_example() -> None:
    interest = torch.tensor([0.6, 0.4, 0.0], dtype=torch.float64)
    to_c = torch.tensor([[0.7, 0.0, 0.3], [0.0, 0.3, 0.7], [0.0, 0.0, 1.0]], dtype=torch.float64)
    assert float(markov_update(interest, to_c, alpha=0.8, beta=0.2)[2]) == pytest.approx(0.8 * 0 + 0.2 * 0.46)
    interest[2] = 0.5
    to_c[2] = 0.0  # nobody leaves C
    assert float(markov_update(interest, to_c, alpha=0.8, beta=0.2)[2]) == pytest.approx(0.8 * 0.5 + 0.2 * 0.46)


@settings(deadline=None)
@given(Seeds, st.floats(0, 1), Layouts)
def test_a_distribution_stays_one(seed: int, alpha: float, layout: torch.layout) -> None:
    interest, transition = drawn(seed)
    after = markov_update(interest, laid_out(transition, layout), alpha, 1 - alpha)
    torch.testing.assert_close(after.sum(1), torch.ones(3, dtype=torch.float64))
    assert torch.all(after >= 0)


@settings(deadline=None)
@given(Seeds, Layouts)
def test_without_moves_nothing_changes(seed: int, layout: torch.layout) -> None:
    interest, transition = drawn(seed)
    assert torch.equal(markov_update(interest, laid_out(transition, layout), 1.0, 0.0), interest)


@settings(deadline=None)
@given(Seeds, st.integers(1, 6), st.floats(0, 1), Layouts)
def test_k_steps_are_the_kth_power(seed: int, steps: int, alpha: float, layout: torch.layout) -> None:
    interest, transition = drawn(seed)
    after = interest
    for _ in range(steps):
        after = markov_update(after, laid_out(transition, layout), alpha, 1 - alpha)
    step = alpha * torch.eye(7, dtype=torch.float64) + (1 - alpha) * transition
    torch.testing.assert_close(after, interest @ torch.linalg.matrix_power(step, steps))


def test_each_row_may_have_its_own_alpha() -> None:
    interest, transition = drawn(0)
    alpha = torch.tensor([[0.1], [0.5], [1.0]], dtype=torch.float64)
    after = markov_update(interest, transition, alpha, 1 - alpha)
    torch.testing.assert_close(after[1], markov_update(interest[1], transition, 0.5, 0.5))


def test_a_transition_over_other_items_is_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \(7, 7\) does not fit interest in 6 items"):
        markov_update(torch.rand(2, 6), torch.rand(7, 7), 0.5, 0.5)


def chain(seed: int, *per_day: float) -> MarkovChain:
    module = MarkovChain(6, per_day).double()
    generator = torch.Generator().manual_seed(seed)
    module.logits.data += torch.randn(6, 6, generator=generator, dtype=torch.float64)
    return module.requires_grad_(False)


@settings(deadline=None)
@given(Seeds, st.floats(1e-3, 0.5), st.integers(0, 400_000), st.integers(0, 400_000))
def test_gaps_compose(seed: int, per_day: float, first: int, second: int) -> None:
    module, belief = chain(seed, per_day), drawn(seed, 6)[0][:, None]
    first_days, second_days = (torch.full((3,), count / TICKS_PER_DAY).double() for count in (first, second))
    at_once = module(belief, first_days + second_days)
    in_two = module(module(belief, first_days), second_days)
    rate = module.log_rate.exp() * (module.transition - torch.eye(6))
    exact = belief @ torch.linalg.matrix_exp((first + second) / TICKS_PER_DAY * rate)
    torch.testing.assert_close(at_once, exact)
    torch.testing.assert_close(in_two, at_once)


def test_a_move_leads_elsewhere() -> None:
    transition = chain(0, 0.1).transition
    assert not transition.diagonal().any()
    torch.testing.assert_close(transition.sum(1), torch.ones(6).double())


def test_no_time_is_no_move_and_a_long_time_forgets_the_start() -> None:
    module, belief = chain(0, 1 / 60), drawn(0, 6)[0][:, None]
    after = module(belief, torch.tensor([0.0, 1e6, 1e6], dtype=torch.float64))
    torch.testing.assert_close(after[0], belief[0])
    torch.testing.assert_close(after[1], after[2])
    torch.testing.assert_close(after[1:] @ module.transition, after[1:])


def test_up_to_the_first_move_it_is_the_founding_update() -> None:
    module, belief = chain(0, 1 / 60), drawn(0, 6)[0][:, None]
    days = torch.full((3,), 62 / TICKS_PER_DAY, dtype=torch.float64)  # a thousandth of a move
    alpha = float(torch.exp(-module.log_rate.exp() * days[0]))
    founding = markov_update(belief, module.transition, alpha, 1 - alpha)
    torch.testing.assert_close(module(belief, days), founding, atol=1e-6, rtol=0)


def test_each_belief_moves_at_its_own_rate() -> None:
    module, belief = chain(0, 1 / 60, 1 / 5), drawn(0, 6)[0]
    days = torch.tensor([3.0, 40.0, 0.0], dtype=torch.float64)
    both = module(torch.stack([belief, belief], 1), days)
    for place, per_day in enumerate((1 / 60, 1 / 5)):
        torch.testing.assert_close(both[:, place], chain(0, per_day)(belief[:, None], days)[:, 0])


def test_half_life_and_gradients() -> None:
    module = MarkovChain(4, (1 / 30,))
    assert module.half_life_days.tolist() == pytest.approx([30 * 0.693147], rel=1e-4)
    module(torch.rand(2, 1, 4), torch.tensor([5.0, 100.0]))[:, 0, 0].sum().backward()
    for parameter in module.parameters():
        assert parameter.grad is not None
        assert torch.isfinite(parameter.grad).all()
        assert parameter.grad.abs().sum() > 0


def test_one_state_is_refused() -> None:
    with pytest.raises(ValueError, match="1 state"):
        MarkovChain(1)


def test_propagation_has_the_gradients_of_its_products() -> None:
    powers = torch.rand(2, 4, 3, 3, dtype=torch.float64, requires_grad=True)
    belief = torch.rand(5, 2, 3, dtype=torch.float64, requires_grad=True)
    gap = torch.tensor([0, 1, 6, 15, 8])
    assert torch.autograd.gradcheck(lambda belief, powers: propagate(belief, gap, powers), (belief, powers))
    turned = belief.detach().transpose(0, 1).clone().transpose(0, 1)  # the layout that an earlier result has
    before = turned.clone()
    torch.testing.assert_close(propagate(turned, gap, powers), propagate(belief, gap, powers))
    assert torch.equal(turned, before)
