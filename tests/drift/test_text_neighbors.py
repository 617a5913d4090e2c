"""An item leads to the items whose text is nearest, the nearer the likelier, and never to itself."""

import numpy as np
import pytest
import torch

from llmrec.drift.text_neighbors import (
    TEMPERATURE,
    center_and_normalize,
    extend_text_neighbors,
    find_text_neighbors,
    new_item_probability,
)


def test_rows_are_the_softmax_over_the_nearest() -> None:
    torch.manual_seed(0)
    vectors = torch.randn(9, 4) + 5
    near = find_text_neighbors(center_and_normalize(vectors), 3).toarray()
    centered = (vectors - vectors.mean(0)).double().numpy()
    unit = centered / np.linalg.norm(centered, axis=1, keepdims=True)
    for row in range(9):
        cosine = unit @ unit[row]
        cosine[row] = -np.inf
        best = np.argsort(-cosine)[:3]
        expected = np.zeros(9)
        expected[best] = np.exp(cosine[best] / TEMPERATURE) / np.exp(cosine[best] / TEMPERATURE).sum()
        np.testing.assert_allclose(near[row], expected, atol=1e-4)


def test_a_small_catalog_has_fewer_and_one_item_has_none() -> None:
    np.testing.assert_allclose(find_text_neighbors(torch.randn(3, 4), 30).toarray().sum(1), 1.0)
    assert find_text_neighbors(torch.randn(1, 4), 30).nnz == 0


@pytest.mark.parametrize("n_items", [40, 6, 5])
def test_extended_rows_are_those_of_all_items(n_items: int) -> None:
    torch.manual_seed(1)
    vectors = center_and_normalize(torch.randn(n_items + 9, 6))
    grown = extend_text_neighbors(find_text_neighbors(vectors[:n_items], 5), vectors, 5)
    np.testing.assert_allclose(grown.toarray(), find_text_neighbors(vectors, 5).toarray(), atol=1e-5)


@pytest.mark.parametrize("n_items", [40, 6, 4])
def test_a_foreign_item_has_the_chance_that_it_would_have_if_it_were_added(n_items: int) -> None:
    torch.manual_seed(2)
    vectors = center_and_normalize(torch.randn(n_items + 2, 6))
    near, rows = find_text_neighbors(vectors[:n_items], 5), torch.arange(n_items)
    chances = new_item_probability(near, vectors[:n_items], rows, vectors[n_items:], n_neighbors=5)
    for place in range(2):
        alone = torch.cat([vectors[:n_items], vectors[[n_items + place]]])
        np.testing.assert_allclose(chances[:, place], find_text_neighbors(alone, 5).toarray()[:-1, -1], atol=1e-5)
