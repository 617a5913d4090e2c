"""Indexes by name: exact, FAISS and Milvus."""

from __future__ import annotations

from typing import get_args

from llmrec.errors import ConfigError
from llmrec.search.faiss_index import FaissIndex, Kind
from llmrec.search.index import ExactIndex, ItemIndex
from llmrec.search.milvus_index import MilvusIndex

MILVUS = "milvus:"


def open_index(name: str, dim: int) -> ItemIndex:
    """Open an empty index.

    Args:
        name: exact, ivf, sq8, hnsw, or milvus: followed by a file or the URI of a cluster.
        dim: Width of the vectors, D.

    Returns:
        The index.

    Raises:
        ConfigError: If the name is unknown, or a library is not installed.
    """
    if name == "exact":
        return ExactIndex(dim)
    if name.startswith(MILVUS):
        return MilvusIndex(dim, name.removeprefix(MILVUS), recreate=True)
    for kind in get_args(Kind):
        if name == kind:
            return FaissIndex(dim, kind)
    raise ConfigError(
        f"index={name!r}: unknown. Use exact, {', '.join(get_args(Kind))}, {MILVUS}file.db or {MILVUS}http://host:19530."
    )
