"""Text neighbours that grow with a catalog are those that a catalog of that size has."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from llmrec.models.drift.neighbours import extended_neighbours, text_neighbours, text_vectors


@pytest.mark.parametrize("n_new", [1, 7])
def test_growing_is_beginning_anew(n_new: int) -> None:
    torch.manual_seed(n_new)
    vectors = text_vectors(torch.randn(60, 6))
    old = text_neighbours(vectors[:-n_new], 5)
    before = old.toarray()
    grown, anew = extended_neighbours(old, vectors, 5), text_neighbours(vectors, 5)
    assert grown.shape == anew.shape == (60, 60)
    np.testing.assert_allclose(grown.toarray(), anew.toarray(), atol=1e-5)
    assert (old.toarray() == before).all()  # who holds it may go on with it
    assert not (grown.toarray()[: 60 - n_new, : 60 - n_new] == before).all()


def test_a_catalog_smaller_than_the_neighbourhood() -> None:
    vectors = text_vectors(torch.randn(4, 6))
    grown = extended_neighbours(text_neighbours(vectors[:3], 5), vectors, 5)
    np.testing.assert_allclose(grown.toarray(), text_neighbours(vectors, 5).toarray(), atol=1e-6)
