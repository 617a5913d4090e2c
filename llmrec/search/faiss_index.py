"""FAISS indexes (Douze et al. 2024, arXiv:2401.08281) for catalogs too large to scan.

ivf    inverted lists: scans `n_probes` of them
sq8    scans all items at one byte per value, a quarter of the memory
hnsw   a graph of neighbors (Malkov & Yashunin 2016, arXiv:1603.09320): follows the best `n_candidates`
"""

from __future__ import annotations

import math
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llmrec.errors import ConfigError, missing_extra
from llmrec.search.index import allowed_mask, empty_result, validate_new_rows
from llmrec.search.topk import TopK
from llmrec.utils.arrays import Mask, Rows

Kind = Literal["ivf", "sq8", "hnsw"]
LIST_SIZE = 256  # approximate number of items in an inverted list
N_LINKS = 32  # of an item in the graph
MARGIN = 0.1  # on either side of the range of values that bytes represent, in widths of that range
REMOVED = -1
SCAN_FRACTION = 1 / 20  # share of items: if no more are allowed, all of these are scored


class FaissIndex:
    """Approximate index that may miss some of the best items; measure it with `recall_at_k`.

    The fewer items are allowed, the more are scanned; if fewer than k are found although more are allowed, all of them
    are scored. Inverted lists are built from the items that are added first.

    Args:
        dim: Width of the vectors, D.
        kind: Kind of index.
        n_probes: Number of inverted lists to scan (ivf).
        n_candidates: Number of candidates to follow at a time (hnsw), at least k.

    Raises:
        ConfigError: If the kind is unknown, or FAISS is not installed.
    """

    def __init__(self, dim: int, kind: Kind = "ivf", *, n_probes: int = 16, n_candidates: int = 64) -> None:
        if kind not in get_args(Kind):
            raise ConfigError(f"kind={kind!r}: unknown. Use one of {', '.join(get_args(Kind))}.")
        self.faiss, self.dim, self.kind = _import_faiss(), dim, kind
        self.n_probes, self.n_candidates = n_probes, n_candidates
        # Items are appended and never taken out, because a graph cannot drop them: a removed item stays in place and
        # is skipped, until half of them are removed and a new index is built from the rest.
        self.rows: Rows = np.zeros(0, dtype=np.int64)  # (P,) of each position; REMOVED where the item was removed
        self.index: Any = None

    def __len__(self) -> int:
        return int((self.rows != REMOVED).sum())

    def add(self, rows: Rows, vectors: Tensor) -> None:
        """Add items.

        Args:
            rows: Item rows, (C,).
            vectors: Item vectors, (C, D).

        Raises:
            ConfigError: If a row is in the index already or occurs twice, or the vectors have the wrong shape.
        """
        validate_new_rows(rows, vectors, self.rows, self.dim)
        if not len(rows):
            return
        values = np.ascontiguousarray(vectors.float().cpu().numpy())
        if self.kind == "sq8" and self.index is not None and self._is_out_of_range(values):
            values, self.index = np.concatenate([self._get_vectors(np.arange(len(self.rows))), values]), None
        self._append(values)
        self.rows = np.concatenate([self.rows, rows])

    def remove(self, rows: Rows) -> None:
        """Remove items; rows that are not in the index are ignored.

        Args:
            rows: Item rows.
        """
        self.rows[np.isin(self.rows, rows)] = REMOVED
        there = np.flatnonzero(self.rows != REMOVED)
        if 2 * len(there) <= len(self.rows):
            values, self.index = self._get_vectors(there), None
            self.rows = self.rows[there]
            if len(there):
                self._append(values)

    def search(self, queries: Tensor, k: int, *, allowed: Mask | None = None) -> TopK:
        """Find the items with the largest dot product for each query; some may be missed.

        Args:
            queries: Query vectors, (B, D).
            k: Items per query.
            allowed: Mask by item row; rows beyond its end are not allowed. None allows all.

        Returns:
            Scores and item rows, (B, k), best first; -inf and -1 where no item is left.
        """
        wanted = self.rows != REMOVED
        if allowed is not None:
            wanted &= allowed_mask(allowed, self.rows)
        n_wanted = int(wanted.sum())
        if not n_wanted:
            return empty_result(queries, k)
        vectors, every = np.ascontiguousarray(queries.float().cpu().numpy()), n_wanted == len(wanted)
        selector = None if every else self.faiss.IDSelectorBitmap(np.packbits(wanted, bitorder="little"))
        if n_wanted < SCAN_FRACTION * len(wanted):
            score, place = self._scan(vectors, k, selector)
        else:
            score, place = self._search(vectors, k, selector, len(wanted) / n_wanted)
            short = np.flatnonzero((place >= 0).sum(1) < min(k, n_wanted))
            if len(short):
                score[short], place[short] = self._scan(vectors[short], k, selector)
        item = torch.from_numpy(np.where(place >= 0, self.rows[place], -1))
        return TopK(torch.from_numpy(score).masked_fill(item < 0, -torch.inf), item)

    def _append(self, values: NDArray[np.float32]) -> None:
        if self.index is None:
            self.index = MAKERS[self.kind](self.faiss, self.dim, len(values))
            self.index.train(values)
        self.index.add(values)

    def _search(self, queries: NDArray[np.float32], k: int, selector: Any, effort: float) -> Any:
        """Search with `effort` times the usual number of candidates."""
        if self.kind == "sq8":
            return self._scan(queries, k, selector)
        if self.kind == "ivf":
            how = self.faiss.SearchParametersIVF(sel=selector, nprobe=math.ceil(self.n_probes * effort))
        else:
            how = self.faiss.SearchParametersHNSW(sel=selector, efSearch=math.ceil(max(self.n_candidates, k) * effort))
        return self.index.search(queries, k, params=how)

    def _scan(self, queries: NDArray[np.float32], k: int, selector: Any) -> Any:
        """Score all items."""
        if self.kind == "ivf":
            how = self.faiss.SearchParametersIVF(sel=selector, nprobe=self.index.nlist)
            return self.index.search(queries, k, params=how)
        flat = self.index.storage if self.kind == "hnsw" else self.index
        return flat.search(queries, k, params=self.faiss.SearchParameters(sel=selector))

    def _is_out_of_range(self, values: NDArray[np.float32]) -> bool:
        """Return whether a value is outside the range that bytes represent, where it would be cut off."""
        least, width = self.faiss.vector_to_array(self.index.sq.trained).reshape(2, self.dim)
        return bool(((values < least) | (values > least + width)).any())

    def _get_vectors(self, places: Rows) -> NDArray[np.float32]:
        """Return vectors as stored."""
        if self.index is None:
            return np.zeros((0, self.dim), dtype=np.float32)
        if self.kind == "ivf":
            self.index.make_direct_map()
        values: NDArray[np.float32] = self.index.reconstruct_n(0, len(self.rows))[places]
        return values


def _make_ivf(faiss: Any, dim: int, n_items: int) -> Any:
    n_lists = max(math.ceil(n_items / LIST_SIZE), 1)
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(dim), dim, n_lists, faiss.METRIC_INNER_PRODUCT)
    index.cp.min_points_per_centroid = 1  # else it warns
    return index


def _make_sq8(faiss: Any, dim: int, n_items: int) -> Any:
    index = faiss.IndexScalarQuantizer(dim, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT)
    index.sq.rangestat_arg = MARGIN
    return index


def _make_hnsw(faiss: Any, dim: int, n_items: int) -> Any:
    return faiss.IndexHNSWFlat(dim, N_LINKS, faiss.METRIC_INNER_PRODUCT)


MAKERS = {"ivf": _make_ivf, "sq8": _make_sq8, "hnsw": _make_hnsw}


def _import_faiss() -> Any:
    try:
        import faiss
    except ImportError as error:
        raise ConfigError(f"index: FAISS is not installed. {missing_extra('faiss')}") from error
    return faiss
