"""Faster ways to encode many texts without gradients: packed rows, other kernels and a copy in another type."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from llmrec.backbones.linear_kernels import OF_A_GPU, Arithmetic, choose_fastest
from llmrec.backbones.packing import PackedModel, PackingError, copy_as_dtype
from llmrec.backbones.token_store import TokenStore

if TYPE_CHECKING:
    from llmrec.backbones.text_backbone import TextBackbone

logger = logging.getLogger(__name__)
Parts = Iterator[tuple[NDArray[np.int64], Tensor]]  # rows, and their vectors
COPIED_FROM = 2048  # tokens of a call; the faster copy costs as much as encoding about two hundred tokens
TRIED = 4  # texts that are also encoded plainly, to compare
EXACT, FAST = 1 - 1e-6, 0.9999  # min cosine between fast and plain fp32 vectors


class FastEncoding:
    """Choice of the fastest arithmetic whose vectors agree with the plain ones of a backbone.

    Args:
        backbone: The backbone; its model may be replaced and trained later.
    """

    def __init__(self, backbone: TextBackbone) -> None:
        self.backbone = backbone
        self._checked: tuple[nn.Module, Arithmetic | None] | None = None  # fastest arithmetic for this model
        self._copied: tuple[nn.Module, torch.device, nn.Module] | None = None  # copy of this model on this device

    def encode(self, way: Arithmetic, tokens: TokenStore) -> Parts:
        """Encode texts packed on a CPU, and in padded batches on a GPU, which they keep busy, too.

        Args:
            way: Arithmetic of the linear layers.
            tokens: Tokens of N texts.

        Yields:
            Rows of some texts, (U,), and their unit vectors, (U, D_text).
        """
        if self.backbone.device.type == "cpu":
            for rows, hidden in PackedModel(self.backbone.model, way).encode(tokens):
                yield rows, self.backbone.finish(hidden, None)
            return
        model = self._copy_as(way.dtype)
        for rows in self.backbone.batch_tokens(tokens):
            yield rows, self.backbone.compute_vectors(model, *tokens.get_batch(rows, self.backbone.device))

    def _copy_as(self, dtype: torch.dtype) -> nn.Module:
        """Return a copy with the current weights, made once so that it is compiled only once."""
        now, device = self.backbone.model, self.backbone.device
        if self._copied is not None and self._copied[0] is now and self._copied[1] == device:
            for copied, weight in zip(self._copied[2].parameters(), now.parameters(), strict=True):
                copied.copy_(weight)
            return self._copied[2]
        model: nn.Module = copy_as_dtype(dtype, now)
        if self.backbone.config.compile:
            model.compile(dynamic=True)
        self._copied = now, device, model
        return model

    def choose_arithmetic(self, tokens: TokenStore) -> Arithmetic | None:
        """Choose the fastest arithmetic for texts.

        Args:
            tokens: Tokens of N texts.

        Returns:
            The arithmetic; None if the texts are too few or the model supports none.
        """
        plain = self.backbone.device.type != "cpu" and self.backbone.config.encode_precision == "fp32"
        if plain or self.backbone.config.quantize or len(tokens.flat) < COPIED_FROM or tokens.lengths.min() == 0:
            return None
        if self._checked is None or self._checked[0] is not self.backbone.model:  # adapters replace the model
            spread = np.linspace(0, len(tokens) - 1, TRIED).astype(np.int64)  # includes the minimum and maximum length
            self._checked = self.backbone.model, self._fastest_accurate(tokens.take(np.argsort(tokens.lengths)[spread]))
        return self._checked[1]

    def _fastest_accurate(self, sample: TokenStore) -> Arithmetic | None:
        """Return the fastest arithmetic that `encode_precision` allows, if its vectors agree with plain ones."""
        if self.backbone.config.encode_precision == "auto":
            way = choose_fastest(reduced=True) if self.backbone.device.type == "cpu" else OF_A_GPU
            cosine = self._min_cosine(way, sample)
            if cosine >= (EXACT if way.dtype == torch.float32 else FAST):
                return way
            warnings.warn(
                f"backbone.encode_precision=auto: {self.backbone.hub_id!r} is read exactly instead, as its vectors "
                f"come to a cosine of {cosine:.5f} only, not {FAST} (0: this architecture cannot be read so at all)",
                stacklevel=4,
            )
        if self.backbone.device.type != "cpu":
            return None
        way = choose_fastest(reduced=False)
        return way if self._min_cosine(way, sample) >= EXACT else None

    @torch.no_grad()
    def _min_cosine(self, way: Arithmetic, sample: TokenStore) -> float:
        """Return the smallest cosine between vectors by `way` and plain ones; 0 if the model cannot do it."""
        try:
            read = list(self.encode(way, sample))
        except (PackingError, RuntimeError, IndexError) as error:  # of torch: no such kernel, or too few positions
            logger.debug("%s is not read by %s: %s", self.backbone.hub_id, way, error)
            return 0.0
        rows = np.concatenate([rows for rows, _ in read])
        plain = torch.cat([self.backbone(*sample.get_batch(row, self.backbone.device)) for row in rows[:, None]])
        return float((torch.cat([vectors for _, vectors in read]) * plain).sum(1).min())


def prefetch_one(parts: Parts) -> Parts:
    """Delay each part until the next has begun: a GPU computes the next one while this one is copied.

    Args:
        parts: Parts of an encoding.

    Yields:
        The same parts.
    """
    before = None
    for part in parts:
        if before is not None:
            yield before
        before = part
    if before is not None:
        yield before
