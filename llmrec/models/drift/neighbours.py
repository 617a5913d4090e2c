"""Where an item without transitions leads to: the items whose text is like its own."""

from __future__ import annotations

import torch
from scipy import sparse
from torch import Tensor
from torch.nn import functional

TEMPERATURE = 0.05  # of cosines
COSINES_AT_ONCE = 32 << 20  # 128 MiB in fp32


def text_vectors(vectors: Tensor) -> Tensor:
    """(N, D) unit vectors around their mean: those of language models share a large common part."""
    return functional.normalize(vectors - vectors.mean(0), dim=1)


def text_neighbours(vectors: Tensor, n_neighbours: int) -> sparse.csr_array:
    """(N, N) p_text(i|j): softmax over the items whose text is nearest to j's, j itself left out.

    vectors: (N, D) of `text_vectors`.
    """
    n_items = len(vectors)
    kept = min(n_neighbours, n_items - 1)
    blocks, rows = [], max(COSINES_AT_ONCE // n_items, 1)
    for start in range(0, n_items, rows):
        cosine = vectors[start : start + rows] @ vectors.T
        own = torch.arange(len(cosine))
        cosine[own, start + own] = -torch.inf
        best, column = cosine.topk(kept, dim=1)  # (R, kept)
        chance = (best / TEMPERATURE).softmax(1).double()
        ends = kept * torch.arange(len(cosine) + 1)
        parts = chance.flatten().numpy(), column.flatten().numpy(), ends.numpy()
        blocks.append(sparse.csr_array(parts, shape=(len(cosine), n_items)))
    return sparse.vstack(blocks, format="csr")
