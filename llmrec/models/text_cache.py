"""Text vectors on disk, keyed by content: a frozen backbone never reads the same text twice.

A folder per backbone fingerprint holds immutable shards (keys (n, 32) bytes, vectors (n, D) fp32), each written
whole and renamed into place, so that concurrent or killed runs can at worst repeat work.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor

from llmrec.models.backbone import Backbone
from llmrec.models.cache_dir import default_cache_dir
from llmrec.models.tokens import Tokens

KEY_BYTES = 32  # hexadecimal: numpy strips zero bytes from the ends of raw ones
TOKENS = b"tokens:"  # before the ids of what is no text of its own


class TextCache:
    """Vectors of texts by one backbone in one state of its weights."""

    def __init__(self, backbone: Backbone, cache_dir: Path | None = None) -> None:
        self.backbone = backbone
        self.folder = (cache_dir or default_cache_dir()) / "text" / backbone.fingerprint()
        self._loaded: dict[Path, tuple[NDArray[np.bytes_], Tensor]] = {}

    def vectors(self, texts: Sequence[str], describe: str | None = "encoding item text") -> Tensor:
        """(N, D_text) of `texts`; only texts that no shard holds are run through the backbone."""
        keys = _keys([text.encode() for text in texts])
        return self._vectors(
            keys, lambda rows: self.backbone.encode(self.backbone.tokens([texts[row] for row in rows]), describe)
        )

    def read(self, tokens: Tokens) -> Tensor:
        """(U, D_text) of texts that are in tokens already, such as histories."""
        keys = _keys([TOKENS + tokens.flat[start:end].tobytes() for start, end in pairwise(tokens.offset)])
        return self._vectors(keys, lambda rows: self.backbone.encode(tokens.take(rows)))

    def _vectors(self, keys: NDArray[np.bytes_], encode: Callable[[NDArray[np.int64]], Tensor]) -> Tensor:
        """Vectors of `keys`, of which `encode` is asked for the rows that no shard holds."""
        distinct, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
        vectors = torch.empty(len(distinct), self.backbone.dim)
        missing = self._fill(distinct, vectors)
        if len(missing):
            new = encode(first[missing])
            vectors[torch.from_numpy(missing)] = new
            self._write(distinct[missing], new)
        return vectors[torch.from_numpy(inverse)]

    def _fill(self, distinct: NDArray[np.bytes_], vectors: Tensor) -> NDArray[np.int64]:
        """Copy what the shards hold into `vectors`; returns the rows that none holds."""
        missing = np.ones(len(distinct), dtype=np.bool_)
        for shard in sorted(self.folder.glob("*.safetensors")) if self.folder.is_dir() else []:
            if shard not in self._loaded:
                stored = load_file(shard)
                keys = np.ascontiguousarray(stored["keys"].numpy()).view(f"S{KEY_BYTES}").ravel()
                self._loaded[shard] = keys, stored["vectors"]
            keys, kept = self._loaded[shard]
            _, ours, theirs = np.intersect1d(distinct, keys, return_indices=True)
            vectors[torch.from_numpy(ours)] = kept[torch.from_numpy(theirs)]
            missing[ours] = False
        return np.flatnonzero(missing)

    def _write(self, keys: NDArray[np.bytes_], vectors: Tensor) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        raw = torch.from_numpy(keys.view(np.uint8).reshape(len(keys), KEY_BYTES).copy())
        name = hashlib.sha256(keys.tobytes()).hexdigest()[:16]
        partial = self.folder / f"{name}.{os.getpid()}.partial"
        save_file({"keys": raw, "vectors": vectors.contiguous()}, partial)
        partial.replace(self.folder / f"{name}.safetensors")


def _keys(contents: Sequence[bytes]) -> NDArray[np.bytes_]:
    digests = [hashlib.blake2b(content, digest_size=KEY_BYTES // 2).hexdigest() for content in contents]
    return np.array(digests, dtype=f"S{KEY_BYTES}")
