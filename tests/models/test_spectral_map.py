"""The spectral map against SciPy's generalized eigenproblem, its optimum, a planted structure, and several logs."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import eigh

from llmrec.models.spectral_map import SpectralMap, TextMoments
from llmrec.utils.arrays import Rows

N_ITEMS, DIM = 60, 6


def draw_log(seed: int) -> tuple[torch.Tensor, Rows, Rows]:
    """Return texts, counts and pairs; the last items have no events."""
    rng = np.random.default_rng(seed)
    text = torch.from_numpy(rng.normal(size=(N_ITEMS, DIM)) @ rng.normal(size=(DIM, DIM)) + 2).float()
    pairs = rng.integers(0, N_ITEMS - 9, (300, 2))
    return text, np.bincount(pairs.ravel(), minlength=N_ITEMS), pairs


def moments_of(seed: int) -> TextMoments:
    return TextMoments.from_pairs(*draw_log(seed))


def test_moments_are_those_of_the_listed_events() -> None:
    text, counts, pairs = draw_log(0)
    vectors = text.double().numpy()
    events = vectors[pairs.ravel()]
    centered = vectors - events.mean(0)
    neighbors = centered[pairs[:, 0]].T @ centered[pairs[:, 1]] / len(pairs)
    found = TextMoments.from_pairs(text, counts, pairs)
    np.testing.assert_allclose(found.center, events.mean(0), atol=1e-6)
    np.testing.assert_allclose(found.covariance, np.cov(events.T, bias=True), atol=1e-4)
    np.testing.assert_allclose(found.neighbors, (neighbors + neighbors.T) / 2, atol=1e-4)


@pytest.mark.parametrize("ridge", [0.03, 0.3])
def test_directions_solve_the_generalized_eigenproblem(ridge: float) -> None:
    moments = moments_of(1)
    found = SpectralMap.fit([moments], ridge=ridge)
    covariance = moments.covariance.numpy()
    metric = covariance + ridge * np.trace(covariance) / DIM * np.eye(DIM)
    values, vectors = eigh(moments.neighbors.numpy(), metric)
    np.testing.assert_allclose(found.strength, np.maximum(values[::-1], 0), atol=1e-5)
    overlap = found.directions.T.double().numpy() @ metric @ vectors[:, ::-1]
    np.testing.assert_allclose(np.abs(overlap), np.eye(DIM), atol=1e-3)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_no_other_direction_has_more_in_common_with_its_neighbors(seed: int) -> None:
    moments = moments_of(2)
    found = SpectralMap.fit([moments], ridge=0.1)
    other = torch.randn(DIM, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    metric = moments.covariance + 0.1 * moments.covariance.diagonal().mean() * torch.eye(DIM)
    assert other @ moments.neighbors @ other <= (found.strength[0] + 1e-5) * (other @ metric @ other)


def test_a_planted_direction_is_found_though_its_variance_is_small() -> None:
    rng = np.random.default_rng(3)
    group = rng.integers(0, 2, N_ITEMS)
    vectors = 3 * rng.normal(size=(N_ITEMS, DIM))
    vectors[:, 4] = group - 0.5
    one = rng.integers(0, N_ITEMS, 4000)
    other = np.array([rng.choice(np.flatnonzero(group == group[row])) for row in one])
    pairs = np.stack([one, other], axis=1)
    text = torch.from_numpy(vectors).float()
    found = SpectralMap.fit(
        [TextMoments.from_pairs(text, np.bincount(pairs.ravel(), minlength=N_ITEMS), pairs)], ridge=1e-3
    )
    assert int(found.directions[:, 0].abs().argmax()) == 4
    assert float(found.strength[0]) > 5 * float(found.strength[1])


def test_several_logs_have_centers_of_their_own() -> None:
    text, counts, pairs = draw_log(4)
    one = TextMoments.from_pairs(text, counts, pairs)
    moved = TextMoments.from_pairs(text + 7, counts, pairs)
    alone, both = SpectralMap.fit([one], ridge=0.1), SpectralMap.fit([one, moved], ridge=0.1)
    torch.testing.assert_close(both.strength, alone.strength, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(both.matrix @ both.matrix.T, alone.matrix @ alone.matrix.T / 2, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(both.center, moved.center.float())


def test_the_adaptor_gives_uncorrelated_directions_by_strength() -> None:
    text, counts, pairs = draw_log(5)
    found = SpectralMap.fit([TextMoments.from_pairs(text, counts, pairs)], ridge=1e-6)
    weight, bias, share = found.make_adaptor(4, scale=0.5)
    events = (text @ weight.T + bias)[torch.from_numpy(pairs.ravel())]
    torch.testing.assert_close(events.mean(0), torch.zeros(4), atol=1e-4, rtol=0)
    torch.testing.assert_close(events.T @ events / len(events), 0.25 * torch.eye(4), atol=1e-3, rtol=0)
    torch.testing.assert_close(share.sum(), torch.tensor(1.0))
    assert (share.diff() <= 0).all()


def test_the_adaptor_pads_when_text_is_narrower_than_the_model() -> None:
    weight, bias, share = SpectralMap.fit([moments_of(6)], ridge=0.1).make_adaptor(DIM + 2, scale=1.0)
    assert weight.shape == (DIM + 2, DIM)
    assert torch.all(weight[DIM:] == 0)
    assert torch.all(share[DIM:] == 0)
    assert torch.isfinite(bias).all()


def test_texts_that_are_all_alike_give_finite_directions() -> None:
    pairs = np.array([[0, 1], [1, 2]])
    moments = TextMoments.from_pairs(torch.ones(3, 4), np.array([1, 2, 1]), pairs)
    assert torch.isfinite(SpectralMap.fit([moments], ridge=0.1).matrix).all()
