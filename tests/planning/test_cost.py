"""Operations and bytes, against counts by hand and against tensors that are there."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from llmrec.models.losses import full_softmax_loss
from llmrec.planning.cost import (
    Cost,
    Footprint,
    LinearCost,
    count_operations,
    count_trained_bytes,
    count_weight_bytes,
    measure_time,
    track_saved_activations,
)


def test_a_product_is_two_operations_for_each_of_its_terms() -> None:
    layer, rows = nn.Linear(8, 4), torch.randn(16, 8, requires_grad=True)
    forward = 2 * 16 * 8 * 4
    assert count_operations(lambda: layer(rows)).flops == forward
    assert (
        count_operations(lambda: layer(rows).sum().backward()).flops == 3 * forward
    )  # by the weights, and by the rows


def test_the_loss_s_own_products_and_attention_are_counted() -> None:
    states, items, target = torch.randn(20, 6, requires_grad=True), torch.randn(30, 6), torch.arange(20)
    # Logits, and the gradients of both sides, the second of which is summed in place.
    assert count_operations(lambda: full_softmax_loss(states, items, target)).flops == 3 * 2 * 20 * 30 * 6
    heads = torch.randn(2, 3, 5, 8)
    attend = count_operations(lambda: functional.scaled_dot_product_attention(heads, heads, heads))
    assert attend.flops == 2 * (2 * 2 * 3 * 5 * 5 * 8)


def test_a_gpu_is_held_up_by_products_or_by_calls() -> None:
    assert Cost(flops=2e13).gpu_seconds(10.0) == pytest.approx(2.0)
    assert Cost(flops=1.0, calls=1000).gpu_seconds(10.0) == pytest.approx(0.01)
    assert count_operations(lambda: torch.zeros(3) + 1).calls == 2


def test_costs_add_up_and_the_work_is_done_once() -> None:
    assert (Cost(1, 2, 3, 4) + Cost(1, 1, 1, 1)) * 2 == Cost(4, 6, 8, 10)
    done: list[int] = []
    spent = measure_time(lambda: done.append(sum(range(200_000))))
    assert len(done) == 1
    assert 0 < spent.cpu <= spent.wall * 1.5 + 0.01


def test_a_line_goes_through_its_points_or_through_zero() -> None:
    line = LinearCost.from_two_points((10, Cost(cpu=3.0)), (30, Cost(cpu=5.0)))
    assert line(0).cpu == pytest.approx(2.0)
    assert line(100).cpu == pytest.approx(12.0)
    noisy = LinearCost.from_two_points((10, Cost(cpu=5.0)), (30, Cost(cpu=3.0)))
    assert noisy(60).cpu == pytest.approx(6.0)
    steep = LinearCost.from_two_points((10, Cost(cpu=1.0)), (30, Cost(cpu=6.0)))
    assert steep(0).cpu == 0.0


def test_bytes_are_those_of_the_tensors_of_a_real_step() -> None:
    frozen, tuned = nn.Linear(64, 32), nn.Linear(32, 16, bias=False)
    frozen.requires_grad_(False)
    tuned.register_buffer("table", torch.zeros(10, 16))
    both = nn.Sequential(frozen, tuned)
    assert count_weight_bytes(both, tuned) == 4 * (64 * 32 + 32 + 32 * 16 + 160)  # each once
    optimizer = torch.optim.AdamW(tuned.parameters())
    both(torch.randn(8, 64)).sum().backward()
    assert count_trained_bytes(both) == sum(w.grad.nbytes for w in both.parameters() if w.grad is not None) == 2048
    optimizer.step()
    moments = [t for state in optimizer.state.values() for t in state.values() if t.numel() > 1]
    assert 2 * count_trained_bytes(both) == sum(moment.nbytes for moment in moments)
    assert Footprint(1, 2, 3, 4, 5).total == 15


def test_what_is_kept_for_the_way_back_is_counted_once_and_without_weights() -> None:
    layers = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3))
    rows = torch.randn(7, 6)
    with track_saved_activations(layers) as saved:
        loss = layers(rows).sum()
    # The rows, and what comes out of tanh, which it keeps itself and the next layer keeps as well.
    assert saved.bytes == rows.nbytes + 4 * 7 * 5
    loss.backward()
    with track_saved_activations(layers) as saved, torch.no_grad():
        layers(rows)
    assert saved.bytes == 0
