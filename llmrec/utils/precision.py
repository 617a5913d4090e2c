"""Precision of sums that need more bits than autocast leaves."""

from __future__ import annotations

import torch
from torch import Tensor


def upcast_to_fp32(tensor: Tensor) -> Tensor:
    """Convert a tensor to fp32 if its type has fewer bits.

    Args:
        tensor: Any tensor.

    Returns:
        The tensor in fp32, or unchanged if it has as many bits or more, as in tests.
    """
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
