"""Cache on disk of the outputs of a backbone's frozen lower layers, computed once for each text."""

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

# Only the layers above then run, forward and backward, whenever a text is encoded. In fp32 nothing else changes, since
# dropout is off (see `TextBackbone`): the output of the lower layers is a function of the text alone. A batch of other
# texts than the one in which a text was computed may round differently: LoRA's gradients of a step on MiniLM differed
# by 2e-7, relatively; those of the same batch are equal to the bit.
MAX_CACHE_BYTES = 4 << 30  # bytes of states that `auto` stores
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
NEARBY = 1 / 8  # share of a GPU's free memory that states may take instead of the disk
PROBED, AGREES = 4, 1e-4  # texts that are encoded both ways, and the allowed difference of their vectors in fp32


@dataclass(frozen=True)
class HiddenStateFile:
    """File in which hidden states are stored, or would be."""

    path: Path
    """Path of the file."""
    n_layers: int
    """Number of layers that compute the states."""
    dtype: torch.dtype
    """Type of the stored states."""
    size: int
    """Size in bytes."""

    @classmethod
    def from_backbone(
        cls, backbone: TextBackbone, tokens: TokenStore, kept: HiddenStatePrecision, *, cache_dir: Path | None = None
    ) -> HiddenStateFile | None:
        """Return the file for a backbone and texts.

        Args:
            backbone: Backbone with its strategy applied.
            tokens: Tokens of the texts.
            kept: Precision of the stored states, or `none`.
            cache_dir: Folder of the cache; None for the default.

        Returns:
            The file, or None if no layer is frozen or states are not to be stored.
        """
        n_layers = count_frozen_layers(backbone.model)
        dtype = DTYPES.get(kept, torch.float32)
        size = len(tokens.flat) * backbone.hidden_width * dtype.itemsize
        if n_layers == 0 or size == 0 or kept == "none" or (kept == "auto" and size > MAX_CACHE_BYTES):
            return None
        name = f"{_compute_key(backbone, n_layers, tokens)}.{str(dtype).removeprefix('torch.')}"
        return cls((cache_dir or get_cache_dir()) / "layers" / name, n_layers, dtype, size)

    @property
    def is_whole(self) -> bool:
        """True if the file exists and is complete."""
        return self.path.is_file() and self.path.stat().st_size == self.size


@dataclass(frozen=True)
class HiddenStateCache:
    """Hidden states of N texts after the frozen lower layers."""

    n_layers: int
    """Number of layers that were run; the next one takes the states."""
    states: Tensor
    """States of the tokens of all texts, (T, D), mapped from a file or on the GPU."""
    start: NDArray[np.int64]
    """Position of the first token of each text, (N,)."""
    length: NDArray[np.int64]
    """Number of tokens of each text, (N,)."""

    @classmethod
    def load_or_compute(
        cls,
        backbone: TextBackbone,
        tokens: TokenStore,
        *,
        kept: HiddenStatePrecision = "auto",
        cache_dir: Path | None = None,
    ) -> HiddenStateCache | None:
        """Read the states of texts from disk, or compute and store them.

        Args:
            backbone: Backbone with its strategy applied.
            tokens: Tokens of the texts.
            kept: Precision of the stored states, or `none`.
            cache_dir: Folder of the cache; None for the default.

        Returns:
            The cache, or None if no layer is frozen, states are not to be stored, or the model does not reproduce its
            vectors
            from them.

        Raises:
            BackboneError: If there is no room on the disk.
        """
        file = HiddenStateFile.from_backbone(backbone, tokens, kept, cache_dir=cache_dir)
        if file is None:
            return None
        if not file.is_whole:
            file.path.parent.mkdir(parents=True, exist_ok=True)
            _write(file.path, backbone, file.n_layers, tokens, dtype=file.dtype)
        width = backbone.hidden_width
        n_states = len(tokens.flat) * width
        states = torch.from_file(str(file.path), shared=False, size=n_states, dtype=file.dtype).view(-1, width)
        lower = cls(file.n_layers, _move_if_fits(states, backbone.device), tokens.offset[:-1], tokens.lengths)
        return lower if lower._reproduces(backbone, tokens, 1e-2 if file.dtype == torch.bfloat16 else AGREES) else None

    def take(self, rows: NDArray[np.int64]) -> HiddenStateCache:
        """Select some of the texts without copying states.

        Args:
            rows: Rows of the texts, (R,).

        Returns:
            The cache of these texts.
        """
        return replace(self, start=self.start[rows], length=self.length[rows])

    def get_batch(self, rows: NDArray[np.int64], device: torch.device) -> PrecomputedHidden:
        """Return the states of a batch of texts, padded as `TokenStore.get_batch` pads tokens.

        Args:
            rows: Rows of the texts, (U,).
            device: Device of the states.

        Returns:
            States, (U, L, D), 0 after the end of a text.
        """
        steps = np.arange(max(int(self.length[rows].max(initial=0)), 1))
        within = steps < self.length[rows][:, None]  # (U, L)
        position = torch.from_numpy(np.where(within, self.start[rows][:, None] + steps, 0)).to(self.states.device)
        states = self.states[position].float()
        states[torch.from_numpy(~within).to(states.device)] = 0
        return PrecomputedHidden(self.n_layers, states.to(device))

    @property
    def is_exact(self) -> bool:
        """True if the states are stored in fp32."""
        return self.states.dtype == torch.float32

    @property
    def mib(self) -> float:
        """Size of the states in MiB."""
        return self.states.numel() * self.states.dtype.itemsize / 2**20

    @torch.no_grad()
    def _reproduces(self, backbone: TextBackbone, tokens: TokenStore, tolerance: float) -> bool:
        """Return whether the model gives the same vectors from the states as from tokens; not every one does."""
        some = np.unique(np.linspace(0, len(self.start) - 1, PROBED).astype(int))
        some = some[self.length[some] > 0]
        whole, upper = (
            backbone.encode_with_grad(tokens.take(some)),
            backbone.encode_with_grad(tokens.take(some), self.take(some)),
        )
        return torch.allclose(whole, upper, rtol=0, atol=tolerance)


def _move_if_fits(states: Tensor, device: torch.device) -> Tensor:
    """Move states to the GPU if they fit: reading them from disk takes longer than the layers."""
    if device.type != "cuda" or states.nbytes > NEARBY * torch.cuda.mem_get_info(device)[0]:
        return states
    return states.to(device)


def count_frozen_layers(model: nn.Module) -> int:
    """Count the first layers that, with everything before them, do not train.

    Args:
        model: Pretrained model.

    Returns:
        Number of layers; 0 if the layers cannot be identified.
    """
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


def _write(path: Path, backbone: TextBackbone, n_layers: int, tokens: TokenStore, *, dtype: torch.dtype) -> None:
    """Compute the states and write them to a temporary name first, so that a finished file is complete."""
    partial = path.with_suffix(f"{path.suffix}.{os.getpid()}.partial")
    n_states = len(tokens.flat) * backbone.hidden_width
    try:
        with partial.open("wb") as file:  # a sparse file would kill the process if the disk is full
            os.posix_fallocate(file.fileno(), 0, n_states * dtype.itemsize)
        states = torch.from_file(str(partial), shared=True, size=n_states, dtype=dtype).view(-1, backbone.hidden_width)
        for rows in backbone.batch_tokens(tokens):
            ids, mask = tokens.get_batch(rows, backbone.device)
            made = _run_lower_layers(backbone.model, n_layers, ids, mask)[mask.bool()].to(
                "cpu", dtype
            )  # by text, then by position
            place = np.concatenate([np.arange(tokens.offset[row], tokens.offset[row + 1]) for row in rows])
            states[torch.from_numpy(place)] = made
        partial.replace(path)
    except OSError as error:
        raise BackboneError(
            f"{partial}: {n_states * dtype.itemsize / 2**30:.1f} GiB for the states of {len(tokens):,} texts after "
            f"{n_layers} layers cannot be written ({error.strerror}). Make room, set LLMREC_CACHE to a folder that has "
            "it, or set backbone.hidden_state_cache to bf16 or none."
        ) from error
    finally:
        partial.unlink(missing_ok=True)


@torch.no_grad()
def _run_lower_layers(model: nn.Module, n_layers: int, ids: Tensor, mask: Tensor) -> Tensor:
    """Return the states (U, L, D) after the first layers."""
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
    """Hash everything that the states depend on: the tokens and the weights below the upper layers."""
    upper = _collect_upper_ids(backbone.model, n_layers)
    digest = hashlib.sha256(f"{n_layers} {type(backbone.model).__name__}".encode())
    for weight in backbone.model.parameters():
        if id(weight) not in upper:
            digest.update(np.ascontiguousarray(weight.detach().cpu().numpy()).tobytes())
    digest.update(tokens.flat.tobytes() + tokens.offset.tobytes())
    return digest.hexdigest()[:32]


def _collect_upper_ids(model: nn.Module, n_layers: int) -> set[int]:
    """Return the ids of the weights above the first layers."""
    n_above = len(find_layer_stack(model, "lower layers")) - n_layers
    return {id(weight) for part in get_last_layers(model, n_above) for weight in part.parameters()}
