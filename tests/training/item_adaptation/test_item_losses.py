"""Losses of items by hand, what is masked, and a beginning at the best scale."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from llmrec.config.adaptation import ItemAdaptConfig
from llmrec.data.histories import Histories
from llmrec.data.interactions import Interactions
from llmrec.data.splits import Split
from llmrec.training.item_adaptation.item_losses import RIDGE, SCALES, AlignLoss, ContrastLoss, fit_ridge, whiten
from llmrec.training.item_adaptation.make_item_loss import find_hard_negatives, make_item_loss


def draw(*shape: int) -> torch.Tensor:
    return torch.tensor(np.random.default_rng(shape[0]).normal(size=shape)).float()


def test_whitening_leaves_no_correlation() -> None:
    rows = torch.arange(0, 40, 2)
    white = whiten(draw(40, 5) @ draw(5, 5), rows)[rows]
    torch.testing.assert_close(white.T @ white / len(rows), torch.eye(5), rtol=0, atol=1e-4)


def test_the_first_map_is_the_ridge_regression() -> None:
    text, targets = draw(50, 4), draw(50, 3)
    weight, bias = fit_ridge(text, targets)
    centered = (text - text.mean(0)).numpy()
    penalty = np.sqrt(RIDGE * 50 * (centered**2).mean()) * np.eye(4)  # as further rows with targets of 0
    rows = np.concatenate([centered, penalty])
    wanted = np.concatenate([(targets - targets.mean(0)).numpy(), np.zeros((4, 3))])
    expected = torch.from_numpy(np.linalg.lstsq(rows, wanted, rcond=None)[0]).float()
    torch.testing.assert_close(weight, expected.T, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(text.mean(0) @ weight.T + bias, targets.mean(0), rtol=1e-4, atol=1e-5)


def test_align_by_hand() -> None:
    counts = np.arange(10)
    items = np.array([1, 4, 6, 9])
    loss_function = AlignLoss(draw(10, 3), draw(10, 4), counts, items, size=3)
    step = loss_function.draw_step(0, 0)
    assert set(step.rows) <= set(items)
    loss_function.log_scale.data.fill_(math.log(2))
    vectors = draw(10, 4)[torch.from_numpy(step.rows)]
    mapped = functional.normalize(vectors @ loss_function.map.weight.T + loss_function.map.bias, dim=1)
    cosine = mapped @ loss_function.targets[torch.from_numpy(step.rows)].T
    expected = 0.0
    weight = np.sqrt(counts[step.rows]) / np.sqrt(counts[step.rows]).sum()
    for row in range(len(step.rows)):
        terms = [math.exp(2 * float(value)) for value in cosine[row]]
        own = float(cosine[row, row])
        expected += weight[row] * (math.log(sum(terms)) - 2 * own + 0.5 * (1 - own))
    assert float(loss_function(vectors, step)) == pytest.approx(expected, rel=1e-5)


def test_every_item_is_read_once_an_epoch() -> None:
    loss_function = AlignLoss(draw(30, 3), draw(30, 4), np.ones(30, dtype=np.int64), np.arange(5, 29), size=8)
    epoch = np.concatenate([loss_function.draw_step(step, 3).rows for step in range(3)])
    assert sorted(epoch) == list(range(5, 29))
    assert not np.array_equal(loss_function.draw_step(0, 3).rows, loss_function.draw_step(3, 3).rows)


def make_contrast(n_hard: int = 0) -> ContrastLoss:
    user = np.array([0, 0, 0, 1])
    pairs = np.array([[0, 1], [1, 2], [0, 2], [3, 4]])
    seen = np.array([0, 1, 2, 6 + 3, 6 + 4])
    hard = np.array([[5]] * 6)
    return ContrastLoss(
        pairs,
        user=user,
        seen=seen,
        text_class=np.array([0, 1, 2, 3, 4, 4]),
        hard=hard,
        known=np.arange(6),
        n_pairs=4,
        n_negatives=3,
        n_hard=n_hard,
    )


def test_each_user_weighs_the_same() -> None:
    loss_function = make_contrast()
    drawn = [loss_function.draw_step(step, 0) for step in range(200)]
    of_second = [np.isin(step.rows[step.anchor.numpy()], [3, 4]).mean() for step in drawn]
    assert np.mean(of_second) == pytest.approx(0.5, abs=0.05)


def test_contrast_by_hand_and_what_it_masks() -> None:
    loss_function, text = make_contrast(n_hard=2), draw(6, 4)
    step = loss_function.draw_step(1, 0)
    own = {0: {0, 1, 2}, 1: {0, 1, 2}, 2: {0, 1, 2}, 3: {3, 4, 5}, 4: {3, 4, 5}}  # 5 has the text of 4
    vectors = text[torch.from_numpy(step.rows)]
    loss_function.log_scale.data.fill_(math.log(3))
    unit = functional.normalize(vectors - vectors.mean(0), dim=1)
    losses = []
    for at in range(len(step.anchor)):
        anchor, positive = step.anchor[at], step.positive[at]
        logits = [3 * float(unit[anchor] @ unit[positive])]
        for place, column in enumerate(step.column):
            item = int(step.rows[column])
            allowed = item not in own[int(step.rows[anchor])]
            assert bool(step.masked[at, place]) is not allowed
            if allowed:
                logits.append(3 * float(unit[anchor] @ unit[column]) - float(step.log_expected[place]))
        losses.append(math.log(sum(map(math.exp, logits))) - logits[0])
    assert float(loss_function(vectors, step)) == pytest.approx(np.mean(losses), rel=1e-4)


def test_the_scale_begins_where_the_loss_is_lowest() -> None:
    loss_function, text = make_contrast(), draw(6, 4)
    steps = [loss_function.draw_step(step, 0) for step in range(3)]
    loss_function.begin(text, steps)
    chosen, losses = float(loss_function.log_scale.exp()), {}
    for scale in SCALES:
        loss_function.log_scale.data.fill_(math.log(scale))
        losses[scale] = sum(float(loss_function(text[torch.from_numpy(step.rows)], step)) for step in steps)
    assert chosen == pytest.approx(min(losses, key=lambda scale: losses[scale]))


def test_hard_negatives_are_near_and_never_together() -> None:
    rng = np.random.default_rng(0)
    user, item = rng.integers(0, 30, 200), rng.integers(0, 50, 200)
    histories = Histories.from_interactions(Interactions(user, item, np.arange(200)), 30)
    known, text = np.unique(item), draw(50, 6)
    hard = find_hard_negatives(text, known, histories, n_users=30)
    of_item = [set(user[item == row]) for row in range(50)]
    unit = functional.normalize(text - text[known].mean(0), dim=1)
    for row in known:
        found = [near for near in hard[row] if near >= 0]
        near_first = [j for j in known[np.argsort(-(unit[known] @ unit[row]).numpy())] if j != row][:32]
        assert found == [j for j in near_first if not of_item[row] & of_item[j]][:8]


@pytest.mark.parametrize("method", ["align", "contrast"])
def test_held_out_items_teach_nothing(method: str) -> None:
    rng = np.random.default_rng(1)
    user, item = np.sort(rng.integers(0, 30, 400)), rng.integers(0, 40, 400)
    events = Interactions(user, item, np.arange(400))
    split = Split("by_time", events, np.zeros(400, dtype=np.int8), 30, 40, 400, 400)
    held = np.arange(40) % 5 == 0
    config = ItemAdaptConfig(method=method, min_events=2, items_per_step=32)  # type: ignore[arg-type]
    loss_function = make_item_loss(split, config, held=held, targets=draw(40, 6), text=draw(40, 8))
    for number in range(20):
        step = loss_function.draw_step(number, 0)
        assert not held[step.rows[step.anchor.numpy()]].any()
        assert not held[step.rows].any() or method == "contrast"
