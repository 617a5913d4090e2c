"""Warm items know their id, cold ones their text alone; both on one scale."""

import pytest
import torch

from llmrec.config.model import ModelConfig
from llmrec.models.item_encoder import ItemEncoder, fit_whitening


def test_whitening_gives_uncorrelated_unit_directions() -> None:
    torch.manual_seed(0)
    vectors = torch.randn(500, 6) @ torch.randn(6, 6) + 3
    weight, bias, share = fit_whitening(vectors, dim=4, scale=0.5)
    white = vectors @ weight.T + bias
    torch.testing.assert_close(white.mean(0), torch.zeros(4), atol=1e-4, rtol=0)
    torch.testing.assert_close(white.T @ white / 500, 0.25 * torch.eye(4), atol=1e-3, rtol=0)
    variance = torch.linalg.svdvals(vectors - vectors.mean(0))[:4].square()
    torch.testing.assert_close(share, variance / variance.sum())


def test_whitening_pads_when_text_is_narrower_than_the_model() -> None:
    weight, bias, share = fit_whitening(torch.randn(50, 3), dim=5, scale=1.0)
    assert weight.shape == (5, 3)
    assert torch.all(weight[3:] == 0)
    assert torch.all(share[3:] == 0)
    assert torch.isfinite(bias).all()


def test_whitening_of_texts_that_are_all_alike_is_finite() -> None:
    weight, bias, share = fit_whitening(torch.randn(1, 6).expand(20, 6), dim=4, scale=0.1)
    assert all(torch.isfinite(part).all() for part in (weight, bias, share))


def test_items_without_training_events_are_their_text_alone() -> None:
    text, known = torch.randn(4, 8), torch.tensor([True, True, False, True])
    items = ItemEncoder(ModelConfig(dim=8), known, text).eval()
    table = items()
    torch.testing.assert_close(table[2], items.encode_text(text[2]))
    assert not torch.allclose(table[0], items.encode_text(text[0]))


def test_id_dropout_hides_about_its_share_and_only_in_training() -> None:
    torch.manual_seed(0)
    text, known = torch.randn(2000, 8), torch.ones(2000, dtype=torch.bool)
    items = ItemEncoder(ModelConfig(dim=8, id_dropout=0.25), known, text)
    plain = items.encode_text(text)
    hidden = (items.train()() == plain).all(1).float().mean()
    assert 0.2 < float(hidden) < 0.3
    assert not (items.eval()() == plain).all(1).any()


def test_live_rows_carry_gradients_and_the_others_come_from_the_table() -> None:
    text, known = torch.randn(5, 8), torch.ones(5, dtype=torch.bool)
    items = ItemEncoder(ModelConfig(dim=8), known, text).eval()
    live = torch.randn(2, 8, requires_grad=True)
    table = items(None, torch.tensor([1, 3]), live)
    torch.testing.assert_close(table[[0, 2, 4]], items()[[0, 2, 4]])
    table.sum().backward()
    assert live.grad is not None
    assert torch.all(live.grad.abs().sum(1) > 0)


def test_some_rows_are_those_rows_of_the_whole_table() -> None:
    text, known = torch.randn(6, 8), torch.tensor([True, True, False, True, True, True])
    items = ItemEncoder(ModelConfig(dim=8), known, text).eval()
    rows, live_rows, live = torch.tensor([0, 2, 3, 5]), torch.tensor([3, 2]), torch.randn(2, 8)
    torch.testing.assert_close(items(rows, live_rows, live), items(None, live_rows, live)[rows])


def test_ids_alone_need_no_text() -> None:
    items = ItemEncoder(ModelConfig(dim=8, use_item_ids=False), torch.ones(3, dtype=torch.bool), None)
    assert items().shape == (3, 8)
    with pytest.raises(ValueError, match="cannot encode text"):
        items.encode_text(torch.randn(1, 8))
