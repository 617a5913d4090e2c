"""The mixture is what its formula says, and a distribution."""

import numpy as np
import pytest
import torch
from scipy import sparse

from llmrec.config import DriftConfig
from llmrec.models.drift.chain import markov_update
from llmrec.models.drift.head import EPS, N_CONTEXT, DriftHead, Moves, Recent

N_ITEMS = 5


def recent() -> Recent:
    return Recent(
        item=torch.tensor([[0, 3, 0], [2, 0, 0], [0, 0, 0]]),
        mask=torch.tensor([[True, True, False], [True, False, False], [False, False, False]]),
        age_days=torch.tensor([[9.0, 2.0, 0.0], [40.0, 0.0, 0.0], [0.0, 0.0, 0.0]]),
        steps_back=torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]),
        context=torch.rand(3, N_CONTEXT, generator=torch.Generator().manual_seed(0)),
    )


def moves() -> Moves:
    rng = np.random.default_rng(0)
    counts = rng.random((2, N_ITEMS, N_ITEMS)) * (rng.random((2, N_ITEMS, N_ITEMS)) < 0.5)
    text = rng.random((N_ITEMS, N_ITEMS))
    tables = [sparse.csr_array(table) for table in counts]
    return Moves(tables, counts.sum((0, 2)), 0.25, sparse.csr_array(text / text.sum(1, keepdims=True)))


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
    moved = module.moved(asked, world)
    torch.testing.assert_close(moved, expected.float())
    torch.testing.assert_close(moved.sum(1), torch.tensor([1.0, 1.0, 0.0]))  # nowhere to go from without a history

    wanted = torch.tensor([4, 1, 2])
    pairs = (asked.item, wanted[:, None].expand(3, 3))
    chance = module.moved_to(asked, counts[pairs].float(), row_sums[asked.item].float(), text[pairs].float())
    torch.testing.assert_close(chance, moved.gather(1, wanted[:, None])[:, 0])


def test_the_mixture_is_a_distribution_and_its_base_is_tilted() -> None:
    module, asked = head(), recent()
    scores, counts = torch.randn(3, N_ITEMS), torch.rand(2, N_ITEMS)
    base, odds = module.base(scores, counts), module.odds(asked)
    expected = (scores * module.log_sharpness.exp() + module.eta @ torch.log(counts + EPS)).log_softmax(1)
    torch.testing.assert_close(base, expected)
    assert torch.isfinite(odds[:2]).all()
    assert odds[2] == -torch.inf
    mixed = module.mix(base, module.moved(asked, moves()), odds[:, None])
    torch.testing.assert_close(mixed.exp().sum(1), torch.ones(3))
    torch.testing.assert_close(mixed[2], base[2])


def test_stripped_to_its_core_it_is_the_founding_update() -> None:
    module, asked, world = head(timed_gate=False), recent(), moves()
    module.eta.zero_()
    module.log_sharpness.zero_()
    module.log_kappa.fill_(-30.0)
    rows = 0.25 * sum(torch.from_numpy(table.toarray()) for table in world.tables)
    interest = torch.zeros(2, N_ITEMS, dtype=torch.float64)
    weight = module.interest(asked.age_days, asked.steps_back, asked.mask)[:2].double()
    interest.scatter_add_(1, asked.item[:2], weight)
    beta = float(torch.sigmoid(module.odds(asked)[0]))
    own = torch.rand(2, N_ITEMS, dtype=torch.float64)
    own /= own.sum(1, keepdim=True)
    mixed = module.mix(own.log(), module.moved(asked, world)[:2].double(), module.odds(asked)[:2, None].double())
    founding = (1 - beta) * own + markov_update(interest, rows / rows.sum(1, keepdim=True), 0.0, beta)
    torch.testing.assert_close(mixed.exp(), founding, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("terms", [("environment",), ("transitions",)])
def test_terms_can_be_switched_off(terms: tuple[str, ...]) -> None:
    module, asked = head(terms=terms), recent()
    scores, counts = torch.randn(3, N_ITEMS), torch.rand(2, N_ITEMS)
    plain = (scores * module.log_sharpness.exp()).log_softmax(1)
    assert torch.equal(module.base(scores, counts), plain) is (terms == ("transitions",))
    assert bool(torch.isfinite(module.odds(asked)).any()) is (terms == ("transitions",))


def test_a_sure_gate_has_gradients() -> None:
    module, asked = head().requires_grad_(True), recent()
    module.gate.data[0] = 60.0  # its sigmoid is 1 in fp32
    base = module.base(torch.randn(3, N_ITEMS), torch.rand(2, N_ITEMS))
    chances = module.moved_to(asked, torch.rand(3, 3), torch.rand(3, 3) + 3, torch.rand(3, 3))
    module.mix(base[:, 0], chances, module.odds(asked)).sum().backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
