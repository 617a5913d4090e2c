"""The mixture is what its formula says, and a distribution."""

import numpy as np
import pytest
import torch
from scipy import sparse

from llmrec.config.drift import DriftConfig
from llmrec.drift.head import DriftHead
from llmrec.drift.markov_chain import markov_update
from llmrec.drift.terms.chain import state_logits
from llmrec.drift.terms.gate import N_CONTEXT
from llmrec.drift.terms.term_inputs import RecentEvents
from llmrec.drift.terms.transitions import TransitionRows, transition_probabilities, transition_probability
from llmrec.utils.arrays import EPS

N_ITEMS, N_STATES = 5, 3


def recent() -> RecentEvents:
    return RecentEvents(
        item=torch.tensor([[0, 3, 0], [2, 0, 0], [0, 0, 0]]),
        mask=torch.tensor([[True, True, False], [True, False, False], [False, False, False]]),
        age_days=torch.tensor([[9.0, 2.0, 0.0], [40.0, 0.0, 0.0], [0.0, 0.0, 0.0]]),
        steps_back=torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]),
        context=torch.rand(3, N_CONTEXT, generator=torch.Generator().manual_seed(0)),
    )


def moves() -> TransitionRows:
    rng = np.random.default_rng(0)
    counts = rng.random((2, N_ITEMS, N_ITEMS)) * (rng.random((2, N_ITEMS, N_ITEMS)) < 0.5)
    text = rng.random((N_ITEMS, N_ITEMS))
    tables = [sparse.csr_array(table) for table in counts]
    return TransitionRows(tables, counts.sum((0, 2)), 0.25, sparse.csr_array(text / text.sum(1, keepdims=True)))


def row_sum() -> torch.Tensor:
    return moves().row_sum(recent())


def head(**changes: object) -> DriftHead:
    torch.manual_seed(0)
    module = DriftHead(DriftConfig(half_lives_days=(7.0, 30.0), **changes))  # type: ignore[arg-type]
    for parameter in module.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    return module.requires_grad_(False)


def test_what_moves_is_what_the_formula_says() -> None:
    module, asked, world = head(), recent(), moves()
    weight, kappa = module.interest(asked.age_days, asked.steps_back, asked.mask), float(module.log_kappa.exp())
    counts = 0.25 * sum(torch.from_numpy(table.toarray()) for table in world.tables)
    text, row_sums = torch.from_numpy(world.text.toarray()), 0.25 * torch.from_numpy(world.row_sums)
    rows = (counts + kappa * text) / (row_sums + kappa)[:, None]  # p(i|j,t)
    expected = torch.stack([sum(weight[u, t] * rows[asked.item[u, t]] for t in range(3)) for u in range(3)])
    moved = transition_probabilities(module, asked, world)
    torch.testing.assert_close(moved, expected.float())
    torch.testing.assert_close(moved.sum(1), torch.tensor([1.0, 1.0, 0.0]))  # nowhere to go from without a history

    wanted = torch.tensor([4, 1, 2])
    pairs = (asked.item, wanted[:, None].expand(3, 3))
    chance = transition_probability(
        module, asked, counts[pairs].float(), row_sums[asked.item].float(), text=text[pairs].float()
    )
    torch.testing.assert_close(chance, moved.gather(1, wanted[:, None])[:, 0])


def chained(module: DriftHead) -> torch.Tensor:
    """(3, N) chances by a chain with some interest and emission."""
    generator = torch.Generator().manual_seed(1)
    emission, counts = torch.randn(N_STATES, N_ITEMS, generator=generator), torch.rand(2, N_ITEMS, generator=generator)
    interest = torch.rand(3, N_STATES, generator=generator)
    return interest / interest.sum(1, keepdim=True) @ state_logits(module, emission, counts).softmax(1)


def test_the_mixture_is_a_distribution_and_its_parts_are_tilted() -> None:
    module, asked = head(), recent()
    scores, emission, counts = torch.randn(3, N_ITEMS), torch.randn(N_STATES, N_ITEMS), torch.rand(2, N_ITEMS)
    torch.testing.assert_close(
        module.base_logits(scores, {"environment": counts}),
        scores * module.log_sharpness.exp() + module.eta @ torch.log(counts + EPS),
    )
    torch.testing.assert_close(
        state_logits(module, emission, counts), emission + module.theta @ torch.log(counts + EPS)
    )
    base, moved, latent = (
        module.base_logits(scores, {"environment": counts}).log_softmax(1),
        transition_probabilities(module, asked, moves()),
        chained(module),
    )
    shares = module.log_mixture_shares(asked, row_sum())
    torch.testing.assert_close(shares.exp().sum(1), torch.ones(3))
    mixed = module.mix_log_probabilities(shares, base, moved, latent)
    torch.testing.assert_close(mixed.exp().sum(1), torch.ones(3))
    a, b, c = shares.exp().T[..., None]
    torch.testing.assert_close(mixed.exp(), a * base.exp() + b * moved + c * latent)
    assert shares[2, 1] == -torch.inf  # no history to move on from

    one_each = module.mix_log_probabilities(shares, base[:, 0], moved[:, 0], latent[:, 0])
    torch.testing.assert_close(one_each, mixed[:, 0])


def test_shares_are_a_softmax_of_what_the_history_is_like() -> None:
    module, asked = head(), recent()
    module.shift.copy_(torch.tensor([0.5, -0.5]))
    known = np.log1p(0.25 * moves().row_sums[[3, 2]])  # of the newest items
    looked_at = torch.cat([asked.context[:2], torch.from_numpy(known).float()[:, None]], dim=1)
    odds = looked_at @ module.gate.T + module.shift
    expected = torch.cat([torch.zeros(2, 1), odds], 1).log_softmax(1)
    torch.testing.assert_close(module.log_mixture_shares(asked, row_sum())[:2], expected)
    constant = head(terms=("transitions", "chain"))
    torch.testing.assert_close(
        constant.log_mixture_shares(asked, row_sum())[0], constant.log_mixture_shares(asked, row_sum())[1]
    )
    assert torch.equal(
        module.log_mixture_shares(asked, row_sum(), shift=torch.tensor([0.0, -torch.inf]))[:, 2],
        torch.full((3,), -torch.inf),
    )


def test_stripped_to_its_core_it_is_the_founding_update() -> None:
    module, asked, world = head(terms=("interest", "transitions")), recent(), moves()
    module.log_kappa.fill_(-30.0)
    rows = 0.25 * sum(torch.from_numpy(table.toarray()) for table in world.tables)
    interest = torch.zeros(2, N_ITEMS, dtype=torch.float64)
    weight = module.interest(asked.age_days, asked.steps_back, asked.mask)[:2].double()
    interest.scatter_add_(1, asked.item[:2], weight)
    own = torch.rand(2, N_ITEMS, dtype=torch.float64)
    own /= own.sum(1, keepdim=True)
    shares = module.log_mixture_shares(asked, row_sum())[:2].double()
    beta = float(shares[0, 1].exp())
    mixed = module.mix_log_probabilities(
        shares, own.log(), transition_probabilities(module, asked, world)[:2].double(), 0.0
    )
    founding = (1 - beta) * own + markov_update(interest, rows / rows.sum(1, keepdim=True), 0.0, beta)
    torch.testing.assert_close(mixed.exp(), founding, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("term", ["environment", "transitions", "chain", "interest"])
def test_terms_can_be_switched_off(term: str) -> None:
    terms = tuple(other for other in ("interest", "environment", "transitions", "chain", "gate") if other != term)
    full, module, asked = head(), head(terms=terms), recent()
    scores, counts = torch.randn(3, N_ITEMS), torch.rand(2, N_ITEMS)
    assert torch.equal(
        module.base_logits(scores, {"environment": counts}), full.base_logits(scores, {"environment": counts})
    ) is (term != "environment")
    assert torch.equal(state_logits(module, scores, counts), state_logits(full, scores, counts)) is (
        term != "environment"
    )
    assert torch.equal(
        transition_probabilities(module, asked, moves()), transition_probabilities(full, asked, moves())
    ) is (term != "interest")
    off = torch.isinf(module.log_mixture_shares(asked, row_sum())[:2])
    assert off.any(0).tolist() == [False, term == "transitions", term == "chain"]


def test_without_interest_all_events_say_the_same() -> None:
    module, asked = head(terms=("transitions",)), recent()
    one, other = (
        transition_probabilities(module, asked._replace(item=asked.item[:, places]), moves())[0]
        for places in ([0, 1, 2], [1, 0, 2])
    )
    torch.testing.assert_close(one, other)


def test_a_sure_gate_has_gradients() -> None:
    module, asked = head().requires_grad_(True), recent()
    module.gate.data[0, 0] = 60.0  # its share is 1 in fp32
    base = module.base_logits(torch.randn(3, N_ITEMS), {"environment": torch.rand(2, N_ITEMS)}).log_softmax(1)
    chances = transition_probability(module, asked, torch.rand(3, 3), torch.rand(3, 3) + 3, text=torch.rand(3, 3))
    module.mix_log_probabilities(
        module.log_mixture_shares(asked, row_sum()), base[:, 0], chances, chained(module)[:, 0]
    ).sum().backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
