"""Indexes by name: the exact one, FAISS's, and Milvus."""

from __future__ import annotations

from typing import get_args

from llmrec.errors import ConfigError
from llmrec.search.faiss_index import FaissIndex, Kind
from llmrec.search.index import ExactIndex, ItemIndex
from llmrec.search.milvus_index import MilvusIndex

MILVUS = "milvus:"


def open_index(name: str, dim: int) -> ItemIndex:
    """An empty index for vectors of `dim`. name: exact, ivf, sq8, hnsw, or milvus: and a file or the URI of a cluster.

    Raises:
        ConfigError: another name, or a library that is not installed.
    """
    if name == "exact":
        return ExactIndex(dim)
    if name.startswith(MILVUS):
        return MilvusIndex(dim, name.removeprefix(MILVUS), anew=True)
    for kind in get_args(Kind):
        if name == kind:
            return FaissIndex(dim, kind)
    raise ConfigError(
        f"index={name!r}: exact, {', '.join(get_args(Kind))}, {MILVUS}file.db, or {MILVUS}http://host:19530"
    )
