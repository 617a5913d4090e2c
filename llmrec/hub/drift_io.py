"""Storage of a fitted drift head in a bundle."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file as load_numpy
from safetensors.numpy import save_file as save_numpy
from safetensors.torch import load_file, save_file
from scipy import sparse
from torch import Tensor

from llmrec.config.drift import DriftConfig
from llmrec.drift.fitted import FittedDrift
from llmrec.drift.head import DriftHead
from llmrec.drift.terms.latent_chain import LatentChain
from llmrec.drift.text_neighbors import build_neighbor_matrix
from llmrec.hub.layout import LAYOUT, bundle_file

HEAD = "head."
COLUMN, CHANCE = "near.column", "near.chance"
CENTER = "centre"  # codespell:ignore - the name in saved bundles


def save_drift(folder: Path, drift: FittedDrift, table: Tensor | None) -> None:
    """Write a drift head and its counts.

    Args:
        folder: Folder of the bundle.
        drift: The fitted head.
        table: Text vectors of the bundle, (N, D), which are not stored again if the head uses the same.
    """
    tensors = {HEAD + name: weight.detach().cpu().contiguous() for name, weight in drift.head.state_dict().items()}
    if drift.text is not None and drift.center is not None:
        tensors[CENTER] = drift.center.cpu().contiguous()
        if table is None or not torch.equal(drift.text.cpu(), table[: len(drift.text)].cpu()):
            tensors["text"] = drift.text.cpu().contiguous()
    if (
        drift.text_neighbors is not None and drift.text_neighbors.nnz % drift.text_neighbors.shape[0] == 0
    ):  # every item has the same number of neighbors
        for name, values in (
            (COLUMN, drift.text_neighbors.indices.astype(np.int32)),
            (CHANCE, drift.text_neighbors.data.astype(np.float32)),
        ):
            tensors[name] = torch.from_numpy(values).view(drift.text_neighbors.shape[0], -1)
    save_file(tensors, folder / LAYOUT.drift)
    if drift.counts is not None:
        save_numpy({name: np.ascontiguousarray(sums) for name, sums in drift.counts.items()}, folder / LAYOUT.world)


def load_drift(
    folder: Path,
    config: DriftConfig,
    table: Tensor | None,
    transition_half_life_days: float,
    *,
    trained_until: int | None = None,
) -> FittedDrift:
    """Load a drift head and its counts.

    Args:
        folder: Folder of the bundle.
        config: Settings of the head.
        table: Text vectors of the bundle, (N, D).
        transition_half_life_days: Half-life of transition counts in days.
        trained_until: Time of the last training event in seconds.

    Returns:
        The fitted head.

    Raises:
        ValueError: If shapes do not match the catalog.
    """
    # Items added after the fit that the untrained backbone has not encoded get the center vector, which carries no
    # information about interests.
    counts = load_numpy(bundle_file(folder, LAYOUT.world)) if (folder / LAYOUT.world).is_file() else None
    tensors = load_file(bundle_file(folder, LAYOUT.drift))
    weights = {name.removeprefix(HEAD): weight for name, weight in tensors.items() if name.startswith(HEAD)}
    directions = weights.get("chain.direction")
    head = DriftHead(config, None if directions is None else LatentChain(torch.zeros_like(directions)))
    head.load_state_dict(weights, strict=True)
    text, center = tensors.get("text", table), tensors.get(CENTER)
    if text is None or table is None or center is None:
        text = center = None
    elif text.ndim != 2 or len(text) > len(table) or center.shape != text.shape[1:]:
        raise ValueError(f"text vectors of shape {tuple(text.shape)} for {len(table)} items")
    else:
        text = torch.cat([text, center.expand(len(table) - len(text), -1)])
    head.requires_grad_(requires_grad=False).eval()
    text_neighbors = _build_neighbor_matrix(tensors, 0 if table is None else len(table)) if COLUMN in tensors else None
    return FittedDrift(head, transition_half_life_days, text, center, trained_until, counts, text_neighbors)


def _build_neighbor_matrix(tensors: dict[str, Tensor], n_items: int) -> sparse.csr_array:
    """Build the neighbors of items; raise ValueError for shapes or columns outside the catalog."""
    chance, column = tensors[CHANCE], tensors[COLUMN]
    if column.ndim != 2 or chance.shape != column.shape or len(column) > n_items:
        raise ValueError(f"neighbors of shapes {tuple(chance.shape)} and {tuple(column.shape)} for {n_items} items")
    text_neighbors = build_neighbor_matrix(chance.double(), column, len(column))
    text_neighbors.check_format(full_check=True)
    return text_neighbors
