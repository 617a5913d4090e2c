"""Milvus index for catalogs beyond one machine: a file opens embedded Milvus Lite, a URI a cluster."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from llmrec.errors import ConfigError, missing_extra
from llmrec.search.index import empty_result, validate_new_rows
from llmrec.search.topk import TopK
from llmrec.utils.arrays import Mask, Rows

# Milvus and not pgvector: it distributes one collection over machines by itself, where PostgreSQL keeps it on one, and
# the same client opens a file, so that tests run what is deployed.
ROW, VECTOR = "row", "vector"
INSERT_ROWS = 2000  # items or queries in one request
SETTLED = 1000  # items added at a time from which on they are written to disk and indexed
MAX_RESULTS = 16_384  # Milvus's limit of results and of rows in one response


class MilvusIndex:
    """Index in a Milvus collection, which outlives the process and may be shared.

    A search finds 16,384 items at most, and sees what was added or removed before it (strong consistency). A mask
    becomes a condition on rows: `in` the allowed ones, or `not in` the others, by the shorter list.

    Args:
        dim: Width of the vectors, D.
        place: File name ending in .db, or URI.
        collection: Name of the collection.
        kind: Kind of Milvus's index.
        recreate: Whether to start with an empty collection.

    Raises:
        ConfigError: If pymilvus is not installed, the file or URI cannot be opened, or the collection has another
            width.
    """

    def __init__(
        self, dim: int, place: str, *, collection: str = "llmrec_items", kind: str = "AUTOINDEX", recreate: bool = False
    ) -> None:
        self.dim, self.collection = dim, collection
        self.client = _open_client(place)
        if recreate:
            self.client.drop_collection(collection)
        if not self.client.has_collection(collection):
            self._create(kind)
        fields = {field["name"]: field for field in self.client.describe_collection(collection)["fields"]}
        found = fields.get(VECTOR, {}).get("params", {}).get("dim")
        if found != dim:
            raise ConfigError(
                f"index {place}: collection {collection!r} has {found} dimensions, not {dim}. Name another."
            )
        self.client.load_collection(collection)

    def __len__(self) -> int:
        answer = self.client.query(self.collection, filter=f"{ROW} >= 0", output_fields=["count(*)"])
        return int(answer[0]["count(*)"])

    def add(self, rows: Rows, vectors: Tensor) -> None:
        """Add items.

        Args:
            rows: Item rows, (C,).
            vectors: Item vectors, (C, D).

        Raises:
            ConfigError: If a row is in the index already or occurs twice, or the vectors have the wrong shape.
        """
        validate_new_rows(rows, vectors, self._existing_rows(rows), self.dim)
        values = vectors.float().cpu().numpy()
        for some in _split_range(len(rows), INSERT_ROWS):
            entries = zip(rows[some].tolist(), values[some], strict=True)
            self.client.insert(self.collection, [{ROW: row, VECTOR: value} for row, value in entries])
        if len(rows) >= SETTLED:
            self.client.flush(self.collection)

    def remove(self, rows: Rows) -> None:
        """Remove items; rows that are not in the index are ignored.

        Args:
            rows: Item rows.
        """
        for some in _split_range(len(rows), MAX_RESULTS):
            self.client.delete(self.collection, ids=rows[some].tolist())

    def search(self, queries: Tensor, k: int, *, allowed: Mask | None = None) -> TopK:
        """Find the items with the largest dot product for each query; some may be missed.

        Args:
            queries: Query vectors, (B, D).
            k: Items per query; at most 16,384 are found.
            allowed: Mask by item row; rows beyond its end are not allowed. None allows all.

        Returns:
            Scores and item rows, (B, k), best first; -inf and -1 where no item is left.
        """
        found, condition = empty_result(queries, k), "" if allowed is None else _build_filter(allowed)
        if condition is None:
            return found
        vectors = queries.float().cpu().numpy()
        for some in _split_range(len(vectors), INSERT_ROWS):
            answers = self.client.search(
                self.collection,
                list(vectors[some]),
                filter=condition,
                limit=min(k, MAX_RESULTS),
                output_fields=[ROW],
                anns_field=VECTOR,
            )
            for place, hits in enumerate(answers, start=some.start):
                found.item[place, : len(hits)] = torch.tensor([hit[ROW] for hit in hits], dtype=torch.int64)
                found.score[place, : len(hits)] = torch.tensor([hit["distance"] for hit in hits])
        return found

    def _create(self, kind: str) -> None:
        from pymilvus import DataType

        schema = self.client.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field(ROW, DataType.INT64, is_primary=True)
        schema.add_field(VECTOR, DataType.FLOAT_VECTOR, dim=self.dim)
        index = self.client.prepare_index_params()
        index.add_index(VECTOR, index_type=kind, metric_type="IP")
        self.client.create_collection(self.collection, schema=schema, index_params=index, consistency_level="Strong")

    def _existing_rows(self, rows: Rows) -> Rows:
        """Return those of the rows that are in the collection."""
        held = [entry[ROW] for some in _split_range(len(rows), MAX_RESULTS) for entry in self._look_up(rows[some])]
        return np.array(held, dtype=np.int64)

    def _look_up(self, rows: Rows) -> list[Any]:
        return list(self.client.get(self.collection, ids=rows.tolist(), output_fields=[ROW]))


def _build_filter(allowed: Mask) -> str | None:
    """Build Milvus's filter expression for a mask; None if nothing is allowed."""
    rows = np.flatnonzero(allowed)
    if not len(rows):
        return None
    others = np.flatnonzero(~allowed)
    if len(rows) <= len(others):
        return f"{ROW} in {rows.tolist()}"
    within = f"{ROW} < {len(allowed)}"  # rows beyond its end are not allowed
    return f"{within} and {ROW} not in {others.tolist()}" if len(others) else within


def _split_range(size: int, most: int) -> Iterator[slice]:
    yield from (slice(start, min(start + most, size)) for start in range(0, size, most))


def _open_client(place: str) -> Any:
    try:
        from pymilvus import MilvusClient
        from pymilvus.exceptions import MilvusException
    except ImportError as error:
        raise ConfigError(f"index: pymilvus is not installed. {missing_extra('milvus')}") from error
    try:
        return MilvusClient(place)
    except (MilvusException, OSError, ValueError) as error:
        raise ConfigError(
            f"index: no Milvus at {place!r} ({error}). Name a file such as items.db, or a URI."
        ) from error
