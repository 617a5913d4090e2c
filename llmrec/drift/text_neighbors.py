"""Text neighbors: the items with the most similar texts, which items without transitions lead to."""

from __future__ import annotations

import numpy as np
import torch
from scipy import sparse
from torch import Tensor
from torch.nn import functional

TEMPERATURE = 0.05  # of cosines
COSINES_AT_ONCE = 32 << 20  # 128 MiB in fp32
ROWS_AT_ONCE = 4096  # so that their vectors stay in the cache


def center_and_normalize(vectors: Tensor) -> Tensor:
    """Center vectors and scale them to unit length.

    Vectors of language models share a large common part.

    Args:
        vectors: Vectors of a language model, (N, D).

    Returns:
        Unit vectors, (N, D).
    """
    return functional.normalize(vectors - vectors.mean(0), dim=1)


def find_text_neighbors(vectors: Tensor, n_neighbors: int) -> sparse.csr_array:
    """Compute p_text(i|j): a softmax over the items whose text is nearest to that of j, without j itself.

    Args:
        vectors: (N, D) of `center_and_normalize`.
        n_neighbors: Items in each softmax.

    Returns:
        Probabilities, (N, N).
    """
    return _build_rows(vectors, 0, n_neighbors)


def extend_text_neighbors(text_neighbors: sparse.csr_array, vectors: Tensor, n_neighbors: int) -> sparse.csr_array:
    """Extend text neighbors to new items; only old rows that gain a neighbor are computed again.

    Args:
        text_neighbors: `find_text_neighbors` of the first N vectors, (N, N).
        vectors: With those of R new items, (N + R, D).
        n_neighbors: Items in each softmax.

    Returns:
        Probabilities, (N + R, N + R).
    """
    n_old = text_neighbors.shape[0]
    if n_old == len(vectors):
        return text_neighbors
    if n_old <= n_neighbors:  # every item is a neighbor, and rows grow longer
        return find_text_neighbors(vectors, n_neighbors)
    kept = text_neighbors.nnz // n_old
    column = torch.from_numpy(text_neighbors.indices).view(-1, kept).long()  # (N, kept)
    chance = torch.from_numpy(text_neighbors.data).view(-1, kept).clone()
    fresh = vectors[:n_old] @ vectors[n_old:].T  # (N, R)
    # Few rows gain a new item: the others keep their neighbors.
    changed = (fresh > _min_cosines(column, chance, vectors)[:, None]).any(1).nonzero().flatten()
    cosine = _compute_cosines(text_neighbors, vectors, changed)[1]
    new = torch.arange(n_old, len(vectors)).expand(len(changed), -1)
    best, position = torch.cat([cosine, fresh[changed]], dim=1).topk(kept, dim=1)
    column[changed] = torch.cat([column[changed], new], dim=1).gather(1, position)
    chance[changed] = (best / TEMPERATURE).softmax(1).to(chance)
    return sparse.vstack(
        [build_neighbor_matrix(chance, column, len(vectors)), _build_rows(vectors, n_old, n_neighbors)], format="csr"
    )


def find_new_item_neighbors(vectors: Tensor, new_items: Tensor, n_neighbors: int) -> sparse.csr_array:
    """Compute p_text(i|j) from items outside the catalog.

    Args:
        vectors: Of the catalog, (N, D).
        new_items: Of the items outside it, (R, D).
        n_neighbors: Items in each softmax.

    Returns:
        Probabilities, (R, N).
    """
    best, column = (new_items @ vectors.T).topk(min(n_neighbors, len(vectors) - 1), dim=1)
    return build_neighbor_matrix((best / TEMPERATURE).softmax(1).double(), column, len(vectors))


def new_item_probability(
    text_neighbors: sparse.csr_array, vectors: Tensor, rows: Tensor, new_items: Tensor, *, n_neighbors: int
) -> Tensor:
    """Compute p_text(f|j) to items outside the catalog, each as if it alone were added.

    Args:
        text_neighbors: Text neighbors, (M, N).
        vectors: Of its rows, (M, D); the first N are its columns too.
        rows: Rows j of `text_neighbors`, (J,).
        new_items: Vectors of the items outside the catalog, (F, D).
        n_neighbors: Items in each softmax.

    Returns:
        Probabilities, (J, F).
    """
    if not text_neighbors.nnz:
        return torch.zeros(len(rows), len(new_items))
    column, cosine = _compute_cosines(text_neighbors, vectors, rows)  # (J, kept)
    fresh, least = vectors[rows] @ new_items.T, cosine.amin(1, keepdim=True)  # (J, F), (J, 1)
    rest = cosine.sort(dim=1, descending=True).values
    if column.shape[1] == n_neighbors:  # the least of them is replaced
        rest, fresh = rest[:, :-1], fresh.masked_fill(fresh <= least, -torch.inf)
    total = (rest / TEMPERATURE).logsumexp(1, keepdim=True)
    return torch.sigmoid(fresh / TEMPERATURE - total)


def build_neighbor_matrix(chance: Tensor, column: Tensor, n_columns: int) -> sparse.csr_array:
    """Build sparse rows with the same number of entries each.

    Args:
        chance: Probabilities, (R, kept).
        column: Columns of the probabilities, (R, kept).
        n_columns: Number of columns, N.

    Returns:
        Sparse rows, (R, N).
    """
    ends = column.shape[1] * np.arange(len(column) + 1)
    parts = chance.flatten().numpy(), column.flatten().numpy(), ends
    return sparse.csr_array(parts, shape=(len(column), n_columns))


def _build_rows(vectors: Tensor, first: int, n_neighbors: int) -> sparse.csr_array:
    """Compute the rows from `first` on, (N - first, N)."""
    n_items = len(vectors)
    kept = min(n_neighbors, n_items - 1)
    blocks, rows = [], max(COSINES_AT_ONCE // n_items, 1)
    for start in range(first, n_items, rows):
        cosine = vectors[start : start + rows] @ vectors.T
        own = torch.arange(len(cosine))
        cosine[own, start + own] = -torch.inf
        best, column = cosine.topk(kept, dim=1)  # (R, kept)
        blocks.append(build_neighbor_matrix((best / TEMPERATURE).softmax(1).double(), column, n_items))
    return sparse.vstack(blocks, format="csr")


def _min_cosines(column: Tensor, chance: Tensor, vectors: Tensor) -> Tensor:
    """Compute the cosine of each row's furthest neighbor, (N,)."""
    highest, position = chance.max(1)
    nearest = column.gather(1, position[:, None])[:, 0]
    own_and_nearest = torch.split(vectors[: len(nearest)], ROWS_AT_ONCE), torch.split(nearest, ROWS_AT_ONCE)
    pairs = zip(*own_and_nearest, strict=True)
    cosines = [torch.einsum("nk,nk->n", own, vectors[other]) for own, other in pairs]
    return torch.cat(cosines) + TEMPERATURE * (chance.amin(1) / highest).log().float()


def _compute_cosines(text_neighbors: sparse.csr_array, vectors: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return the columns (J, kept) of rows (J,) and their cosines, from the largest and the chances."""
    kept = text_neighbors.nnz // text_neighbors.shape[0]
    column = torch.from_numpy(text_neighbors.indices).view(-1, kept)[rows].long()
    chance = torch.from_numpy(text_neighbors.data).view(-1, kept)[rows]
    highest, position = chance.max(1, keepdim=True)
    nearest = (vectors[rows] * vectors[column.gather(1, position)[:, 0]]).sum(1, keepdim=True)
    return column, nearest + TEMPERATURE * (chance / highest).log().float()
