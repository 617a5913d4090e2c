"""An item leads to the items whose text is nearest, the nearer the likelier, and never to itself."""

import numpy as np
import torch

from llmrec.models.drift.neighbours import TEMPERATURE, text_neighbours, text_vectors


def test_rows_are_the_softmax_over_the_nearest() -> None:
    torch.manual_seed(0)
    vectors = torch.randn(9, 4) + 5
    near = text_neighbours(text_vectors(vectors), 3).toarray()
    centred = (vectors - vectors.mean(0)).double().numpy()
    unit = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    for row in range(9):
        cosine = unit @ unit[row]
        cosine[row] = -np.inf
        best = np.argsort(-cosine)[:3]
        expected = np.zeros(9)
        expected[best] = np.exp(cosine[best] / TEMPERATURE) / np.exp(cosine[best] / TEMPERATURE).sum()
        np.testing.assert_allclose(near[row], expected, atol=1e-4)


def test_a_small_catalog_has_fewer_and_one_item_has_none() -> None:
    np.testing.assert_allclose(text_neighbours(torch.randn(3, 4), 30).toarray().sum(1), 1.0)
    assert text_neighbours(torch.randn(1, 4), 30).nnz == 0
