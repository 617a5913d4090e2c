"""Where an item without transitions leads to: the items whose text is like its own."""

from __future__ import annotations

import numpy as np
import torch
from scipy import sparse
from torch import Tensor
from torch.nn import functional

TEMPERATURE = 0.05  # of cosines
COSINES_AT_ONCE = 32 << 20  # 128 MiB in fp32
ROWS_AT_ONCE = 4096  # whose vectors stay in the cache


def center_and_normalize(vectors: Tensor) -> Tensor:
    """(N, D) unit vectors around their mean: those of language models share a large common part."""
    return functional.normalize(vectors - vectors.mean(0), dim=1)


def find_text_neighbors(vectors: Tensor, n_neighbours: int) -> sparse.csr_array:
    """(N, N) p_text(i|j): softmax over the items whose text is nearest to j's, j itself left out.

    vectors: (N, D) of `center_and_normalize`.
    """
    return _build_rows(vectors, 0, n_neighbours)


def extend_text_neighbors(text_neighbors: sparse.csr_array, vectors: Tensor, n_neighbours: int) -> sparse.csr_array:
    """`find_text_neighbors` of vectors (N + R, D), from those of the first N: of old rows only those are made anew that
    a new item is near to.
    """
    n_old = text_neighbors.shape[0]
    if n_old == len(vectors):
        return text_neighbors
    if n_old <= n_neighbours:  # every item is a neighbour, and rows grow longer
        return find_text_neighbors(vectors, n_neighbours)
    kept = text_neighbors.nnz // n_old
    column = torch.from_numpy(text_neighbors.indices).view(-1, kept).long()  # (N, kept)
    chance = torch.from_numpy(text_neighbors.data).view(-1, kept).clone()
    fresh = vectors[:n_old] @ vectors[n_old:].T  # (N, R)
    # Few rows are near to a new item: those that are no nearer to it than `least` are not looked at.
    changed = (fresh > _min_cosines(column, chance, vectors)[:, None]).any(1).nonzero().flatten()
    cosine = _compute_cosines(text_neighbors, vectors, changed)[1]
    new = torch.arange(n_old, len(vectors)).expand(len(changed), -1)
    best, position = torch.cat([cosine, fresh[changed]], dim=1).topk(kept, dim=1)
    column[changed] = torch.cat([column[changed], new], dim=1).gather(1, position)
    chance[changed] = (best / TEMPERATURE).softmax(1).to(chance)
    return sparse.vstack(
        [build_neighbor_matrix(chance, column, len(vectors)), _build_rows(vectors, n_old, n_neighbours)], format="csr"
    )


def find_new_item_neighbors(vectors: Tensor, new_items: Tensor, n_neighbours: int) -> sparse.csr_array:
    """(R, N) p_text(i|j) of R items that are not among the N, to as many as one of them has: vectors (N, D), foreign
    (R, D).
    """
    best, column = (new_items @ vectors.T).topk(min(n_neighbours, len(vectors) - 1), dim=1)
    return build_neighbor_matrix((best / TEMPERATURE).softmax(1).double(), column, len(vectors))


def new_item_probability(
    text_neighbors: sparse.csr_array, vectors: Tensor, rows: Tensor, new_items: Tensor, n_neighbours: int
) -> Tensor:
    """(J, F) p_text(f|j) as each of the F items would have it if it alone were added; text_neighbors: (M, N), rows:
    (J,) of it.

    vectors: (M, D) of the rows, the first N of which are the columns too. new_items: (F, D).
    """
    if not text_neighbors.nnz:
        return torch.zeros(len(rows), len(new_items))
    column, cosine = _compute_cosines(text_neighbors, vectors, rows)  # (J, kept)
    fresh, least = vectors[rows] @ new_items.T, cosine.amin(1, keepdim=True)  # (J, F), (J, 1)
    rest = cosine.sort(dim=1, descending=True).values
    if column.shape[1] == n_neighbours:  # the least of them makes way
        rest, fresh = rest[:, :-1], fresh.masked_fill(fresh <= least, -torch.inf)
    total = (rest / TEMPERATURE).logsumexp(1, keepdim=True)
    return torch.sigmoid(fresh / TEMPERATURE - total)


def build_neighbor_matrix(chance: Tensor, column: Tensor, n_columns: int) -> sparse.csr_array:
    """(R, N) with as many entries in each row: chance, column (R, kept)."""
    ends = column.shape[1] * np.arange(len(column) + 1)
    parts = chance.flatten().numpy(), column.flatten().numpy(), ends
    return sparse.csr_array(parts, shape=(len(column), n_columns))


def _build_rows(vectors: Tensor, first: int, n_neighbours: int) -> sparse.csr_array:
    """(N - first, N) rows from `first` on."""
    n_items = len(vectors)
    kept = min(n_neighbours, n_items - 1)
    blocks, rows = [], max(COSINES_AT_ONCE // n_items, 1)
    for start in range(first, n_items, rows):
        cosine = vectors[start : start + rows] @ vectors.T
        own = torch.arange(len(cosine))
        cosine[own, start + own] = -torch.inf
        best, column = cosine.topk(kept, dim=1)  # (R, kept)
        blocks.append(build_neighbor_matrix((best / TEMPERATURE).softmax(1).double(), column, n_items))
    return sparse.vstack(blocks, format="csr")


def _min_cosines(column: Tensor, chance: Tensor, vectors: Tensor) -> Tensor:
    """(N,) cosine of each row's furthest neighbour."""
    highest, position = chance.max(1)
    nearest = column.gather(1, position[:, None])[:, 0]
    own_and_nearest = torch.split(vectors[: len(nearest)], ROWS_AT_ONCE), torch.split(nearest, ROWS_AT_ONCE)
    pairs = zip(*own_and_nearest, strict=True)
    cosines = [torch.einsum("nd,nd->n", own, vectors[other]) for own, other in pairs]
    return torch.cat(cosines) + TEMPERATURE * (chance.amin(1) / highest).log().float()


def _compute_cosines(text_neighbors: sparse.csr_array, vectors: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Columns (J, kept) of rows (J,) and their cosines: that of the likeliest, and of the rest by how their chances
    stand to its.
    """
    kept = text_neighbors.nnz // text_neighbors.shape[0]
    column = torch.from_numpy(text_neighbors.indices).view(-1, kept)[rows].long()
    chance = torch.from_numpy(text_neighbors.data).view(-1, kept)[rows]
    highest, position = chance.max(1, keepdim=True)
    nearest = (vectors[rows] * vectors[column.gather(1, position)[:, 0]]).sum(1, keepdim=True)
    return column, nearest + TEMPERATURE * (chance / highest).log().float()
