"""The chunked softmax equals torch's own; the sampled one estimates it."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from llmrec.models import losses


@pytest.mark.parametrize("at_once", [7, 1 << 20])
def test_full_softmax_has_torchs_loss_and_gradients(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses, "LOGITS_AT_ONCE", at_once)
    monkeypatch.setattr(losses, "MIN_ROWS", 2)
    torch.manual_seed(0)
    states, items = torch.randn(13, 5).double().requires_grad_(), torch.randn(9, 5).double().requires_grad_()
    target = torch.tensor([0, 1, 2, 4, 5, 6, 7, 8, 0, 1, 2, 4, 5])
    ours = losses.full_softmax_loss(states, items, target)
    grads = torch.autograd.grad(2 * ours, (states, items))
    theirs = functional.cross_entropy(states @ items.T, target, reduction="sum")
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(grads, torch.autograd.grad(2 * theirs, (states, items)))


def test_full_softmax_passes_gradcheck() -> None:
    torch.manual_seed(1)
    states, items = torch.randn(4, 3).double().requires_grad_(), torch.randn(6, 3).double().requires_grad_()
    assert torch.autograd.gradcheck(losses.full_softmax_loss, (states, items, torch.tensor([0, 5, 2, 2])))


def test_full_softmax_of_a_sure_and_of_a_hopeless_target() -> None:
    states, items = torch.tensor([[200.0], [200.0]]).requires_grad_(), torch.tensor([[1.0], [0.0]]).requires_grad_()
    losses.full_softmax_loss(states, items, torch.tensor([0, 1])).backward()  # losses 0 and 200, where exp(-200) is 0
    torch.testing.assert_close(losses.full_softmax_loss(states, items, torch.tensor([0, 1])), torch.tensor(200.0))
    torch.testing.assert_close(items.grad, torch.tensor([[200.0], [-200.0]]))


def test_sampled_softmax_leaves_accidental_hits_out_and_corrects_for_sampling() -> None:
    states, items = torch.tensor([[1.0, 2.0]]), torch.tensor([[0.5, 0.5], [1.0, 0.0], [0.0, 1.0]])
    target, drawn = torch.tensor([0]), torch.tensor([0, 1, 2, 0])
    loss = losses.sampled_softmax_loss(states, items[target], items[drawn], target, negative_rows=drawn, n_items=9)
    # positive logit 1.5; negatives 1 and 2, each standing for 8 / 4 items
    expected = -1.5 + torch.logsumexp(
        torch.tensor([1.5, 1 + torch.log(torch.tensor(2.0)), 2 + torch.log(torch.tensor(2.0))]), 0
    )
    torch.testing.assert_close(loss, expected)


def test_sampled_softmax_over_everything_else_is_the_full_one() -> None:
    torch.manual_seed(2)
    states, items = torch.randn(1, 4), torch.randn(8, 4)
    others = torch.arange(1, 8)
    sampled = losses.sampled_softmax_loss(
        states, items[:1], items[others], torch.tensor([0]), negative_rows=others, n_items=8
    )
    torch.testing.assert_close(sampled, losses.full_softmax_loss(states, items, torch.tensor([0])))


def test_columns_are_all_items_of_a_small_catalog() -> None:
    columns, log_weight = losses.choose_softmax_items(torch.rand(50), np.random.default_rng(0))
    assert torch.equal(columns, torch.arange(50))
    assert not log_weight.any()


def test_columns_of_a_large_catalog_stand_for_all_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses, "FULL_ITEMS", 100)
    monkeypatch.setattr(losses, "SAMPLED_ITEMS", 80)
    counts = torch.arange(1000) % 997  # the highest: 996, 995, ...
    columns, log_weight = losses.choose_softmax_items(counts, np.random.default_rng(0))
    assert len(columns) == len(columns.unique()) == 80
    assert set(counts[columns[:40]].tolist()) == set(range(957, 997))
    assert float(log_weight.exp().sum()) == pytest.approx(1000)
    logits = counts / 50.0  # the frequent items are the likely ones
    totals = []
    for seed in range(200):
        columns, log_weight = losses.choose_softmax_items(counts, np.random.default_rng(seed))
        totals.append(float((logits[columns] + log_weight).exp().sum()))
    assert np.mean(totals) == pytest.approx(float(logits.exp().sum()), rel=0.02)
