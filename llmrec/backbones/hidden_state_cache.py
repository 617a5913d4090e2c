"""What a backbone's layers below the first one that trains make of texts: run once for each text, kept on disk.

Only the layers above are then run, forth and back, whenever a text is read. With fp32 nothing else changes, because
dropout is off (see `TextBackbone`): what comes out of the lower layers is a function of the text alone. A batch of
other
texts than the one that they were read in may be rounded otherwise: LoRA's gradients of a step on MiniLM were 2e-7
apart, in proportion; those of the same batch are the same to the bit.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from llmrec.backbones.layers import PrecomputedHidden, find_layer_stack, get_last_layers, restrict_layers
from llmrec.backbones.text_backbone import TextBackbone
from llmrec.backbones.token_store import TokenStore
from llmrec.config.backbone import HiddenStatePrecision
from llmrec.errors import BackboneError
from llmrec.utils.paths import get_cache_dir

LARGEST = 4 << 30  # bytes of states that `auto` keeps
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
NEARBY = 1 / 8  # of a GPU's free memory, which states may take instead of the disk
PROBED, AGREES = 4, 1e-4  # texts that are read both ways, and by how much their vectors may differ in fp32


@dataclass(frozen=True)
class HiddenStateFile:
    """Where states are kept, or would be. n_layers: that make them. size: in bytes."""

    path: Path
    n_layers: int
    dtype: torch.dtype
    size: int

    @classmethod
    def from_backbone(
        cls, backbone: TextBackbone, tokens: TokenStore, kept: HiddenStatePrecision, cache_dir: Path | None = None
    ) -> HiddenStateFile | None:
        """None where nothing is to be gained or kept."""
        n_layers = count_frozen_layers(backbone.model)
        dtype = DTYPES.get(kept, torch.float32)
        size = len(tokens.flat) * backbone.dim * dtype.itemsize
        if n_layers == 0 or size == 0 or kept == "none" or (kept == "auto" and size > LARGEST):
            return None
        name = f"{_compute_key(backbone, n_layers, tokens)}.{str(dtype).removeprefix('torch.')}"
        return cls((cache_dir or get_cache_dir()) / "layers" / name, n_layers, dtype, size)

    @property
    def is_whole(self) -> bool:
        return self.path.is_file() and self.path.stat().st_size == self.size


@dataclass(frozen=True)
class HiddenStateCache:
    """states: (T, D) of all texts' tokens in a row, a file mapped into memory, or on the GPU. start, length: (N,) of
    each text in it.

    n_layers: that were run; the next one takes the states.
    """

    n_layers: int
    states: Tensor
    start: NDArray[np.int64]
    length: NDArray[np.int64]

    @classmethod
    def load_or_compute(
        cls,
        backbone: TextBackbone,
        tokens: TokenStore,
        kept: HiddenStatePrecision = "auto",
        cache_dir: Path | None = None,
    ) -> HiddenStateCache | None:
        """From disk, or made and written there; None where nothing is to be gained or kept.

        Raises:
            BackboneError: no room on the disk.
        """
        file = HiddenStateFile.from_backbone(backbone, tokens, kept, cache_dir)
        if file is None:
            return None
        if not file.is_whole:
            file.path.parent.mkdir(parents=True, exist_ok=True)
            _write(file.path, backbone, file.n_layers, tokens, file.dtype)
        n_states = len(tokens.flat) * backbone.dim
        states = torch.from_file(str(file.path), shared=False, size=n_states, dtype=file.dtype).view(-1, backbone.dim)
        lower = cls(file.n_layers, _move_if_fits(states, backbone.device), tokens.offset[:-1], tokens.lengths)
        return lower if lower._reproduces(backbone, tokens, 1e-2 if file.dtype == torch.bfloat16 else AGREES) else None

    def take(self, rows: NDArray[np.int64]) -> HiddenStateCache:
        """Of the texts at `rows` alone; nothing is copied."""
        return replace(self, start=self.start[rows], length=self.length[rows])

    def get_batch(self, rows: NDArray[np.int64], device: torch.device) -> PrecomputedHidden:
        """States (U, L, D) of the texts at `rows`, 0 after their ends, as `TokenStore.get_batch` pads them."""
        steps = np.arange(max(int(self.length[rows].max(initial=0)), 1))
        within = steps < self.length[rows][:, None]  # (U, L)
        position = torch.from_numpy(np.where(within, self.start[rows][:, None] + steps, 0)).to(self.states.device)
        states = self.states[position].float()
        states[torch.from_numpy(~within).to(states.device)] = 0
        return PrecomputedHidden(self.n_layers, states.to(device))

    @property
    def mib(self) -> float:
        return self.states.numel() * self.states.dtype.itemsize / 2**20

    @torch.no_grad()
    def _reproduces(self, backbone: TextBackbone, tokens: TokenStore, tolerance: float) -> bool:
        """Whether the model, entered above its lower layers, reads as it does from the words: not every one does."""
        some = np.unique(np.linspace(0, len(self.start) - 1, PROBED).astype(int))
        some = some[self.length[some] > 0]
        whole, upper = (
            backbone.encode_with_grad(tokens.take(some)),
            backbone.encode_with_grad(tokens.take(some), self.take(some)),
        )
        return torch.allclose(whole, upper, rtol=0, atol=tolerance)


def _move_if_fits(states: Tensor, device: torch.device) -> Tensor:
    """On the GPU, where they fit: a step waits longer for the disk than the layers take."""
    if device.type != "cuda" or states.nbytes > NEARBY * torch.cuda.mem_get_info(device)[0]:
        return states
    return states.to(device)


def count_frozen_layers(model: nn.Module) -> int:
    """How many of the model's first layers, with all before them, do not train; 0 too where layers cannot be told."""
    try:
        stack = find_layer_stack(model, "lower layers")
    except BackboneError:
        return 0
    trains = [any(weight.requires_grad for weight in layer.parameters()) for layer in stack]
    if True not in trains or trains[0]:
        return 0
    n_layers = trains.index(True)
    above = _collect_upper_ids(model, n_layers)
    return n_layers if all(id(weight) in above for weight in model.parameters() if weight.requires_grad) else 0


def _write(path: Path, backbone: TextBackbone, n_layers: int, tokens: TokenStore, dtype: torch.dtype) -> None:
    """Under another name first: a file of this name is whole."""
    partial = path.with_suffix(f"{path.suffix}.{os.getpid()}.partial")
    n_states = len(tokens.flat) * backbone.dim
    try:
        with partial.open("wb") as file:  # a file with holes would end the process where the disk is full
            os.posix_fallocate(file.fileno(), 0, n_states * dtype.itemsize)
        states = torch.from_file(str(partial), shared=True, size=n_states, dtype=dtype).view(-1, backbone.dim)
        for rows in backbone.batch_tokens(tokens):
            ids, mask = tokens.get_batch(rows, backbone.device)
            made = _run_lower_layers(backbone.model, n_layers, ids, mask)[mask.bool()].to(
                "cpu", dtype
            )  # by text, then by place
            place = np.concatenate([np.arange(tokens.offset[row], tokens.offset[row + 1]) for row in rows])
            states[torch.from_numpy(place)] = made
        partial.replace(path)
    except OSError as error:
        raise BackboneError(
            f"{partial}: {n_states * dtype.itemsize / 2**30:.1f} GiB for what the lower {n_layers} layers make of "
            f"{len(tokens):,} texts cannot be written: {error.strerror}. Make room, set LLMREC_CACHE to a folder that "
            "has it, or backbone.kept_states to bf16 or none"
        ) from error
    finally:
        partial.unlink(missing_ok=True)


@torch.no_grad()
def _run_lower_layers(model: nn.Module, n_layers: int, ids: Tensor, mask: Tensor) -> Tensor:
    """(U, L, D) that come out of the first layers."""
    out: list[Any] = []
    hook = find_layer_stack(model, "lower layers")[n_layers - 1].register_forward_hook(
        lambda *call: out.append(call[2])
    )
    try:
        with restrict_layers(model, 0, n_layers):
            model(input_ids=ids, attention_mask=mask)
    finally:
        hook.remove()
    states: Tensor = out[0] if isinstance(out[0], Tensor) else out[0][0]
    return states


def _compute_key(backbone: TextBackbone, n_layers: int, tokens: TokenStore) -> str:
    """Of everything that the states depend on: the texts in tokens, and all weights but those of the layers above."""
    upper = _collect_upper_ids(backbone.model, n_layers)
    digest = hashlib.sha256(f"{n_layers} {type(backbone.model).__name__}".encode())
    for weight in backbone.model.parameters():
        if id(weight) not in upper:
            digest.update(np.ascontiguousarray(weight.detach().cpu().numpy()).tobytes())
    digest.update(tokens.flat.tobytes() + tokens.offset.tobytes())
    return digest.hexdigest()[:32]


def _collect_upper_ids(model: nn.Module, n_layers: int) -> set[int]:
    """Of the weights above the first layers."""
    n_above = len(find_layer_stack(model, "lower layers")) - n_layers
    return {id(weight) for part in get_last_layers(model, n_above) for weight in part.parameters()}
