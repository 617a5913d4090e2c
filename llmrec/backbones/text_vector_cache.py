"""Cache of text vectors on disk, keyed by content, so that a frozen backbone encodes each text once.

A folder for each backbone fingerprint and precision holds immutable shards (keys (n, 32) bytes, vectors (n, D) fp32),
each written completely and renamed into place: a killed run loses only its last shard, and concurrent runs can at worst
repeat work. Shards are mapped into memory; only the requested vectors are copied.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from tqdm.auto import tqdm

from llmrec.backbones.hidden_state_cache import HiddenStateCache
from llmrec.backbones.text_backbone import TextBackbone
from llmrec.backbones.token_store import TokenStore
from llmrec.utils.atomic_files import fsync_rename, translate_disk_full
from llmrec.utils.paths import get_cache_dir
from llmrec.utils.timing import timer

if TYPE_CHECKING:
    from accelerate import Accelerator

logger = logging.getLogger(__name__)
KEY_BYTES = 32  # hexadecimal: NumPy strips zero bytes from the ends of raw ones
HISTORIES = "-histories"  # suffix of a folder of history vectors, which unlearning deletes
TOKENS = b"tokens:"  # prefix of token ids that are not those of a text
SHARD_TEXTS, SHARD_TEXTS_GPU = 4096, 65_536  # maximum: a few seconds of MiniLM on one core; less on a GPU
HASHED_AT_ONCE = 1 << 16  # texts of an Arrow array that are Python strings at the same time

Texts: TypeAlias = Sequence[str] | pa.LargeStringArray  # the array takes no more memory than the bytes
# Encodes the texts at some rows, and reports their number.
Encode: TypeAlias = Callable[[NDArray[np.int64], Callable[[int], object]], Tensor]


@dataclass(frozen=True)
class Shard:
    """File of text vectors, mapped into memory."""

    keys: NDArray[np.bytes_]
    """Keys of the texts, (n,)."""
    vectors: Tensor
    """Text vectors, (n, D)."""

    @classmethod
    def open_mapped(cls, path: Path) -> Shard:
        """Map a file into memory.

        Args:
            path: The file.

        Returns:
            The shard.
        """
        with safe_open(path, framework="pt") as file:
            keys = file.get_tensor("keys").numpy().view(f"S{KEY_BYTES}").ravel()
            return cls(keys, file.get_tensor("vectors"))


@dataclass(frozen=True)
class FillResult:
    """Numbers of texts in `TextVectorCache.fill`."""

    n_texts: int
    """Number of distinct texts."""
    n_read: int
    """Number of texts that this process has encoded."""


class TextVectorCache:
    """Cache of text vectors of one backbone with one state of its weights.

    Args:
        backbone: Backbone that encodes the texts.
        cache_dir: Folder of the cache; None for the default.
        accelerator: Accelerator whose processes share the encoding in `fill` and `get_vectors`, which all of them must
            then call.
        shard_texts: Number of texts of a shard; None for the default of the device.
    """

    def __init__(
        self,
        backbone: TextBackbone,
        cache_dir: Path | None = None,
        *,
        accelerator: Accelerator | None = None,
        shard_texts: int | None = None,
    ) -> None:
        self.backbone, self.accelerator = backbone, accelerator
        self.shard_texts = shard_texts or (SHARD_TEXTS if backbone.device.type == "cpu" else SHARD_TEXTS_GPU)
        reading = "" if backbone.config.encode_precision == "fp32" else f"-{backbone.config.encode_precision}"
        self.folder = (cache_dir or get_cache_dir()) / "text" / f"{backbone.fingerprint()}{reading}"
        self._shards: dict[Path, Shard] = {}

    @timer.section("encode")
    def fill(self, texts: Texts, describe: str | None = "encoding item text") -> FillResult:
        """Encode the texts that no shard holds, each once, into shards, without keeping vectors in memory.

        Args:
            texts: Texts, (N,).
            describe: Title of a progress bar; None shows none.

        Returns:
            Numbers of distinct and of encoded texts.
        """
        return self._encode_share(_compute_text_keys(texts), self._make_encoder(texts), describe)

    def find_missing(self, texts: Texts) -> NDArray[np.int64]:
        """Find the texts that no shard holds.

        Args:
            texts: Texts, (N,).

        Returns:
            Row of each distinct missing text, (n,).
        """
        distinct, first = np.unique(_compute_text_keys(texts), return_index=True)
        absent = np.ones(len(distinct), dtype=np.bool_)
        for known, _, _ in self._look_up(distinct):
            absent[known] = False
        return first[absent]

    @timer.section("encode")
    def get_vectors(
        self, texts: Texts, describe: str | None = "encoding item text", *, lower: HiddenStateCache | None = None
    ) -> Tensor:
        """Return the vectors of texts; only texts that no shard holds are encoded.

        Args:
            texts: Texts, (N,).
            describe: Title of a progress bar; None shows none.
            lower: Hidden states of these texts after the first layers, which then do not run again; None without any.

        Returns:
            Text vectors, (N, D_text).
        """
        keys, encode = _compute_text_keys(texts), self._make_encoder(texts, lower)
        if self.accelerator is not None and self.accelerator.num_processes > 1:
            self._encode_share(keys, encode, describe)
        return self._get_or_fill(keys, encode, describe=describe)

    def _make_encoder(self, texts: Texts, lower: HiddenStateCache | None = None) -> Encode:
        states = lower if lower is not None and lower.is_exact else None

        @torch.no_grad()
        def encode(rows: NDArray[np.int64], advance: Callable[[int], object]) -> Tensor:
            some = texts.take(pa.array(rows)).to_pylist() if isinstance(texts, pa.LargeStringArray) else None
            tokens = self.backbone.tokenize([texts[row] for row in rows] if some is None else some)
            if states is None:
                return self.backbone.encode(tokens, advance)
            vectors = self.backbone.encode_with_grad(tokens, states.take(rows)).cpu()
            advance(len(rows))
            return vectors

        return encode

    def get_history_vectors(self, tokens: TokenStore) -> Tensor:
        """Return the vectors of histories, stored in a separate folder, see `delete_history_vectors`.

        Args:
            tokens: Tokens of U histories.

        Returns:
            Text vectors, (U, D_text).
        """
        keys = _compute_keys([TOKENS + tokens.flat[start:end].tobytes() for start, end in pairwise(tokens.offset)])
        return self._history_cache._get_or_fill(
            keys, lambda rows, advance: self.backbone.encode(tokens.take(rows), advance)
        )

    @cached_property
    def _history_cache(self) -> TextVectorCache:
        other = copy(self)
        other.folder, other._shards = self.folder.with_name(self.folder.name + HISTORIES), {}
        return other

    def _get_or_fill(self, keys: NDArray[np.bytes_], encode: Encode, *, describe: str | None = None) -> Tensor:
        """Return the vectors of keys; `encode` gives those that no shard holds."""
        distinct, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
        vectors = torch.empty(len(distinct), self.backbone.dim)
        missing = np.ones(len(distinct), dtype=np.bool_)
        for known, stored, shard in self._look_up(distinct):
            vectors[torch.from_numpy(known)] = shard.vectors[torch.from_numpy(stored)]
            missing[known] = False
        rows = np.flatnonzero(missing)
        for part, new in self._read(distinct[rows], first[rows], encode, describe):
            vectors[torch.from_numpy(rows[part])] = new
        return vectors[torch.from_numpy(inverse)]

    def _encode_share(self, keys: NDArray[np.bytes_], encode: Encode, describe: str | None) -> FillResult:
        """Encode this process's share of missing texts, and return when all processes have written."""
        # Keys are divided in order, including those already stored, so that processes agree on who encodes a text
        # without communication, whatever has been written by then.
        distinct, first = np.unique(keys, return_index=True)
        n_distinct, wanted = len(distinct), np.ones(len(distinct), dtype=np.bool_)
        if self.accelerator is not None:
            rank, world = self.accelerator.process_index, self.accelerator.num_processes
            wanted = np.arange(n_distinct) % world == rank
            if not self.accelerator.is_local_main_process:
                describe = None
            elif describe is not None and world > 1:
                describe += f", process {rank + 1} of {world}"
        for known, _, _ in self._look_up(distinct):
            wanted[known] = False
        self._shards.clear()  # a large catalog has thousands of mapped shards
        rows = np.flatnonzero(wanted)
        distinct, first = distinct[rows], first[rows]
        for _ in self._read(distinct, first, encode, describe):
            pass
        if self.accelerator is not None:
            self.accelerator.wait_for_everyone()
        return FillResult(n_distinct, len(rows))

    def _look_up(self, distinct: NDArray[np.bytes_]) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], Shard]]:
        """Yield, for each shard, rows of the sorted `distinct` and the rows of the shard that hold them."""
        for path in sorted(self.folder.glob("*.safetensors")) if len(distinct) else []:
            if path not in self._shards:
                try:
                    self._shards[path] = Shard.open_mapped(path)
                except SafetensorError as error:
                    logger.warning("%s: damaged shard removed (%s), its texts are encoded again", path, error)
                    path.unlink(missing_ok=True)
                    continue
            shard = self._shards[path]
            place = np.searchsorted(distinct, shard.keys).clip(max=len(distinct) - 1)
            stored = np.flatnonzero(distinct[place] == shard.keys)
            yield place[stored], stored, shard

    def _read(
        self, keys: NDArray[np.bytes_], rows: NDArray[np.int64], encode: Encode, describe: str | None
    ) -> Iterator[tuple[slice, Tensor]]:
        """Encode the texts at `rows` in parts; each part is on disk when it is yielded."""
        off = True if describe is None or not len(rows) else None
        with tqdm(total=len(rows), desc=describe, unit="item", disable=off, leave=False) as bar:
            for start in range(0, len(rows), self.shard_texts):
                part = slice(start, start + self.shard_texts)
                vectors = encode(rows[part], bar.update)
                self._write(keys[part], vectors)
                yield part, vectors

    def _write(self, keys: NDArray[np.bytes_], vectors: Tensor) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        raw = torch.from_numpy(keys.view(np.uint8).reshape(len(keys), KEY_BYTES).copy())
        name = hashlib.sha256(keys.tobytes()).hexdigest()[:16]
        partial = self.folder / f"{name}.{os.getpid()}.partial"
        try:
            with timer.section("write"), translate_disk_full(partial, " or set LLMREC_CACHE to a folder that has it"):
                save_file({"keys": raw, "vectors": vectors.contiguous()}, partial)
                fsync_rename(partial, self.folder / f"{name}.safetensors")
        finally:
            partial.unlink(missing_ok=True)


def delete_history_vectors(cache_dir: Path | None = None) -> int:
    """Delete the history vectors of all backbones; they are computed again when they are next needed.

    Args:
        cache_dir: Folder of the cache; None for the default.

    Returns:
        Number of deleted files.
    """
    # A vector does not show which user it belongs to, so all are deleted. Nothing else in the cache is about users.
    folders = list(((cache_dir or get_cache_dir()) / "text").glob(f"*{HISTORIES}"))
    n_files = sum(1 for folder in folders for _ in folder.iterdir())
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
    return n_files


def _compute_text_keys(texts: Texts) -> NDArray[np.bytes_]:
    """Hash texts to keys (N,)."""
    if not isinstance(texts, pa.LargeStringArray):
        return _compute_keys([text.encode() for text in texts])
    starts = range(0, len(texts), HASHED_AT_ONCE)
    parts = (texts.slice(start, HASHED_AT_ONCE).cast(pa.large_binary()).to_pylist() for start in starts)
    return np.concatenate([_compute_keys([]), *map(_compute_keys, parts)])


def _compute_keys(contents: Sequence[bytes]) -> NDArray[np.bytes_]:
    digests = [hashlib.blake2b(content, digest_size=KEY_BYTES // 2).hexdigest() for content in contents]
    return np.array(digests, dtype=f"S{KEY_BYTES}")
